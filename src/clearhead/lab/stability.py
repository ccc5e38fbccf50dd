"""Whether verdicts change with the seeds: what other seed lists say of the same claims, in words.

A claim counts as decided if a seed list calls it supported or refuted; only such a verdict promises anything.
"""

from collections.abc import Iterable, Sequence

from clearhead.lab.question import Text, Verdict
from clearhead.lab.runner import Result

DECIDED = (Verdict.SUPPORTED, Verdict.REFUTED)


def lists(result: Result) -> int:
    """How many seed lists a question ran with."""
    return 1 + len(result.others)


def seeded(result: Result) -> bool:
    """Whether the measurements of a question use seeds at all."""
    return bool(result.rows.distinct("seed"))


def same(result: Result, claim: str) -> int:
    """How many seed lists, the first included, give a claim the verdict of the first."""
    verdicts = list(result.by_list(claim).values())
    return verdicts.count(verdicts[0])


def agreement(result: Result, claim: str) -> Text | None:
    """How many seed lists give this verdict; None with one list, and for a question without seeds."""
    count = lists(result)
    if count == 1 or not seeded(result):
        return None
    agreeing = same(result, claim)
    return Text(
        en=f"{agreeing} of {count} seed lists give this verdict.",
        zh=f"{count} 组种子中有 {agreeing} 组得出这一结论。",
    )


def summary(results: Sequence[Result]) -> Text | None:
    """How many verdicts are the same with every seed list; None with one list."""
    listed = [(each, claim) for each in results for claim in each.judgements if each.others]
    if not listed:
        return None
    count = lists(listed[0][0])
    sure = [each for each in listed if decided(*each)]
    rest = [each for each in listed if not decided(*each)]
    exact = sum(not seeded(result) for result, _ in sure)
    return Text(
        en=f"With {count} seed lists: {len(sure)} claims are called supported or refuted by a list, {_kept(sure)} of "
        f"them the same by every list ({exact} in questions that use no seeds); of the {len(rest)} others, "
        f"{_kept(rest)} are the same.",
        zh=f"用 {count} 组种子重复：{len(sure)} 条论断至少被一组判为成立或不成立，其中 {_kept(sure)} 条在每组种子下结论"
        f"都相同（{exact} 条所在的问题不用随机种子）；其余 {len(rest)} 条中有 {_kept(rest)} 条相同。",
    )


def decided(result: Result, claim: str) -> bool:
    """Whether any seed list calls a claim supported or refuted."""
    return any(each in DECIDED for each in result.by_list(claim).values())


def _kept(claims: Iterable[tuple[Result, str]]) -> int:
    return sum(same(*each) == lists(each[0]) for each in claims)
