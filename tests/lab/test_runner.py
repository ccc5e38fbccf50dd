"""The runner: cells, cache, workers, and what goes wrong."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from clearhead.core.errors import ConfigError, DataError, ModelError
from clearhead.lab import Scale, Store, chosen, ids, question, run, runner
from clearhead.lab.digest import digest
from clearhead.lab.question import QUESTIONS, TOPICS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.stability import agreement, decided, same, summary

WORDS = Text(en="words", zh="词")
REAL = "scale-by-sqrt-dk"


class Counting(Question):
    """Counts how often each cell is measured."""

    topic = "numerics"
    title = prediction = criterion = WORDS
    sources = (Source("000", "1"),)
    claims = (Claim("only", WORDS, Source("000", "1")),)
    parts = ()
    references = ("none",)
    measured: list[Cell] = []  # noqa: RUF012
    fails_at: int | None = None

    def cells(self, scale: Scale) -> Iterator[Cell]:
        return ({"seed": each} for each in scale.seeds(quick=2, full=4))

    def measure(self, cell: Cell) -> Iterator[Row]:
        if cell["seed"] == type(self).fails_at:
            raise ZeroDivisionError("by hand")
        type(self).measured.append(cell)
        yield {"value": torch.rand(()), "threads": torch.get_num_threads()}

    def judge(self, rows: Rows) -> dict[str, Judgement]:
        return {"only": Judgement(Verdict.SUPPORTED, WORDS)}

    def answer(self, rows: Rows) -> Answer:
        return Answer(WORDS, WORDS, WORDS, WORDS)

    def draw(self, rows: Rows) -> Figure:
        return Figure()


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> type[Counting]:
    ids()  # all real ones are there, so that the new one is not looked for
    monkeypatch.setattr(QUESTIONS, "_parts", {**QUESTIONS._parts, "counting": Counting})
    monkeypatch.setattr(Counting, "measured", [])
    monkeypatch.setattr(Counting, "fails_at", None)
    monkeypatch.setattr(runner, "digest", lambda module: "code")
    return Counting


def test_a_second_run_measures_nothing(counting: type[Counting], tmp_path: Path) -> None:
    first = run(["counting"], Scale("quick"), jobs=1, store=Store(tmp_path))
    again = run(["counting"], Scale("quick"), jobs=1, store=Store(tmp_path))
    assert len(counting.measured) == 2
    assert list(first[0].rows) == list(again[0].rows)
    assert first[0].seconds == again[0].seconds
    run(["counting"], Scale("quick"), jobs=1, store=Store(tmp_path, reads=False))
    assert len(counting.measured) == 4


def test_a_larger_scale_measures_only_what_is_new(counting: type[Counting], tmp_path: Path) -> None:
    run(["counting"], Scale("quick"), jobs=1, store=Store(tmp_path))
    run(["counting"], Scale("full"), jobs=1, store=Store(tmp_path))
    assert [each["seed"] for each in counting.measured] == [0, 1, 2, 3]


def test_new_code_measures_anew(counting: type[Counting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(["counting"], Scale("quick"), jobs=1, store=Store(tmp_path))
    monkeypatch.setattr(runner, "digest", lambda module: "other code")
    run(["counting"], Scale("quick"), jobs=1, store=Store(tmp_path))
    assert len(counting.measured) == 4


def test_a_run_that_failed_goes_on(counting: type[Counting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "fails_at", 2)
    with pytest.raises(ModelError, match=r"counting.*ZeroDivisionError: by hand") as failure:
        run(["counting"], Scale("full"), jobs=1, store=Store(tmp_path))
    assert "'seed': 2" in str(failure.value)
    monkeypatch.setattr(counting, "fails_at", None)
    run(["counting"], Scale("full"), jobs=1, store=Store(tmp_path))
    assert [each["seed"] for each in counting.measured] == [0, 1, 2, 3]


def test_a_damaged_file_is_measured_anew(counting: type[Counting], tmp_path: Path) -> None:
    run(["counting"], Scale("quick"), jobs=1, store=Store(tmp_path))
    for each in tmp_path.rglob("*.json"):
        each.write_text("{")
    run(["counting"], Scale("quick"), jobs=1, store=Store(tmp_path))
    assert len(counting.measured) == 4


def test_what_a_question_leaves_unseeded_is_seeded(counting: type[Counting]) -> None:
    torch.manual_seed(1)
    first = run(["counting"], Scale("quick"), jobs=1)[0].rows
    torch.manual_seed(2)
    assert list(first) == list(run(["counting"], Scale("quick"), jobs=1)[0].rows)
    assert first[0]["value"] != first[1]["value"]


def test_one_thread_inside_and_as_before_outside(counting: type[Counting]) -> None:
    before = torch.get_num_threads()
    rows = run(["counting"], Scale("quick"), jobs=1)[0].rows
    assert rows.column("threads") == [1.0, 1.0]
    assert torch.get_num_threads() == before


def test_seed_lists_share_no_seed(counting: type[Counting]) -> None:
    first, second = (set(Scale("full", number).seeds(quick=2, full=4)) for number in (0, 1))
    assert not first & second


def test_every_claim_is_judged(counting: type[Counting], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "judge", lambda self, rows: {})
    with pytest.raises(ModelError, match=r"does not judge its claims.*only"):
        run(["counting"], Scale("quick"), jobs=1)


def test_workers_measure_the_same(tmp_path: Path) -> None:
    alone = run([REAL], Scale("quick"), jobs=1)[0]
    together = run([REAL], Scale("quick"), jobs=2, store=Store(tmp_path))[0]
    assert list(alone.rows) == list(together.rows)


def test_ids_topics_and_all() -> None:
    assert chosen("all") == list(ids())
    assert chosen(REAL) == [REAL]
    for topic in TOPICS:
        assert all(question(each).topic == topic for each in chosen(topic))
    with pytest.raises(ConfigError, match="did you mean 'scale-by-sqrt-dk'"):
        chosen("scale-by-sqrt-d")


def test_digest_changes_with_code_and_not_with_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clearhead.lab import digest as room

    path = tmp_path / "q.py"
    monkeypatch.setattr(room, "_path", lambda module: path)

    def of(text: str) -> str:
        path.write_text(text)
        room._imports.cache_clear()
        room._content.cache_clear()
        return digest("clearhead.q")

    plain = of("class Q:\n    title = 1\n    size = 3\n    def judge(self): return 1\n")
    assert plain == of("class Q:\n    'Words.'\n    title = 2  # other\n    size = 3\n    def judge(self): return 2\n")
    assert plain != of("class Q:\n    title = 1\n    size = 4\n    def judge(self): return 1\n")


def test_digest_sees_the_parts_that_a_question_imports() -> None:
    from clearhead.lab.digest import _closure

    closure = _closure("clearhead.lab.questions.attention.scale_by_sqrt_dk")
    assert "clearhead.model.attention.dot" in closure
    assert "clearhead.lab.training" in closure
    assert "clearhead.lab.statistics" not in closure
    assert not any("questions.masks" in each for each in closure)


def test_rows() -> None:
    rows = Rows([{"a": 1, "seed": 0, "x": 2.0}, {"a": 2, "seed": 0, "x": 5.0}, {"a": 1, "seed": 1, "x": 4.0}, {"b": 1}])
    assert rows.column("x", a=1) == [2.0, 4.0]
    assert rows.mean("x", a=1) == 3.0
    assert rows.distinct("a") == [1, 2]
    assert rows.paired("x", {"a": 2}, {"a": 1}) == [3.0]
    assert rows.one("x", a=2) == 5.0
    with pytest.raises(DataError, match="one number"):
        rows.one("x", a=1)
    with pytest.raises(DataError, match="no number"):
        rows.mean("x", a=3)
    assert math.isclose(sum(rows[:2].column("x")), 7.0)


class Wavering(Counting):
    """Refuted with the third seed list, supported with others; one cell uses no seed."""

    def cells(self, scale: Scale) -> Iterator[Cell]:
        yield {"part": "exact"}
        yield from super().cells(scale)

    def measure(self, cell: Cell) -> Iterator[Row]:
        type(self).measured.append(cell)
        yield {"value": int(cell.get("seed") or 0)}

    def judge(self, rows: Rows) -> dict[str, Judgement]:
        verdict = Verdict.REFUTED if max(rows.column("value")) >= 2000 else Verdict.SUPPORTED
        return {"only": Judgement(verdict, WORDS)}


@pytest.fixture
def wavering(counting: type[Counting], monkeypatch: pytest.MonkeyPatch) -> type[Wavering]:
    monkeypatch.setattr(QUESTIONS, "_parts", {**QUESTIONS._parts, "wavering": Wavering})
    monkeypatch.setattr(Wavering, "measured", [])
    return Wavering


def test_seed_lists_are_judged_one_by_one(wavering: type[Wavering]) -> None:
    (result,) = run(["wavering"], Scale("quick"), jobs=1, lists=3)
    assert result.by_list("only") == {0: Verdict.SUPPORTED, 1: Verdict.SUPPORTED, 2: Verdict.REFUTED}
    assert result.rows.distinct("seed") == [0, 1]
    (later,) = run(["wavering"], Scale("quick", 1), jobs=1, lists=2)
    assert list(later.by_list("only")) == [1, 2]
    assert not run(["wavering"], Scale("quick"), jobs=1)[0].others


def test_what_uses_no_seed_is_measured_once(wavering: type[Wavering], tmp_path: Path) -> None:
    run(["wavering"], Scale("quick"), jobs=1, lists=3, store=Store(tmp_path))
    assert len(wavering.measured) == 1 + 3 * 2
    run(["wavering"], Scale("quick"), jobs=1, lists=3, store=Store(tmp_path))
    run(["wavering"], Scale("quick", 2), jobs=1, store=Store(tmp_path))
    assert len(wavering.measured) == 1 + 3 * 2


def test_agreement_of_seed_lists(wavering: type[Wavering], counting: type[Counting]) -> None:
    results = run(["wavering", "counting", "softmax-overflow"], Scale("quick"), jobs=1, lists=3)
    assert [same(each, next(iter(each.judgements))) for each in results] == [2, 3, 3]
    said = agreement(results[0], "only")
    assert said is not None
    assert said.en.startswith("2 of 3 seed lists")
    assert said.zh.startswith("3 组种子中有 2 组")
    words = summary(results)
    assert words is not None
    decided_ones = 2 + sum(decided(results[2], each) for each in results[2].judgements)
    assert f"{decided_ones} claims are called supported or refuted by a list, {decided_ones - 1} of them" in words.en
    assert results[0].document()["verdicts"][0]["by_seed_list"] == {"0": "supported", "1": "supported", "2": "refuted"}


def test_one_seed_list_says_nothing_of_agreement(wavering: type[Wavering]) -> None:
    results = run(["wavering"], Scale("quick"), jobs=1)
    assert agreement(results[0], "only") is None
    assert summary(results) is None
