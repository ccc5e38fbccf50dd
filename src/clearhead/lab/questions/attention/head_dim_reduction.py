"""Why does each of h heads get only d_model / h features?"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import exp, log
from statistics import median
from time import perf_counter

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.lab.parts.attend import Attend
from clearhead.lab.pictures import label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, bootstrap, exponent, interval
from clearhead.lab.training import Plan, encoder, encoder_decoder, score, task, trained
from clearhead.model import OPEN, ModelConfig
from clearhead.model.accounting.flops import flops
from clearhead.model.accounting.parameters import skeleton
from clearhead.model.attention.base import Scored
from clearhead.model.position.base import UNRELATED

WIDTH, LENGTH, TOKENS = 256, 64, 1024  # of the layer that is counted and timed; tokens of a timed batch
COUNTS = (1, 2, 4, 8, 16, 32)  # heads
RANK = 1e-10  # singular values below this share of the largest count as 0, in float64
FASTER = 0.9  # a time above this share of one head's is no gain
PLAN = Plan(updates=300, rate=1e-2)
Mix = Callable[[Attend, Tensor, Tensor, Tensor], Tensor]
WAYS: Mapping[str, Mix] = {
    "scores kept": lambda layer, q, k, v: Scored.forward(layer.kernel, q, k, v, OPEN, UNRELATED),  # type: ignore[arg-type]
    "torch's kernel": lambda layer, q, k, v: layer.kernel(q, k, v, OPEN, UNRELATED),
}


@QUESTIONS.register("head-dim-reduction")
class HeadDimReduction(Question):
    """Counts, ranks, times and translation losses for 1 to 32 heads."""

    topic = "attention"
    title = Text(
        en="Why does each of h heads get only d_model / h features, and what stays constant?",
        zh="每个头为什么只分到 d_model/h 维？哪些开销不随头数变化？",
    )
    sources = (Source("000", "6"), Source("002", "2.1(2)"), Source("003", "I.6"))
    claims = (
        Claim(
            "cost",
            Text(
                en="Narrower heads explore more subspaces without adding much computation.",
                zh="缩小每个头的维度，可以在几乎不增加计算量的情况下探索更多子空间。",
            ),
            Source("000", "6"),
        ),
        Claim(
            "richer",
            Text(
                en="For the same cost many narrow heads learn richer combinations than one wide head.",
                zh="计算量相同时，多个低维头比一个高维头学到更丰富的特征组合。",
            ),
            Source("000", "6"),
            note=Text(en="A head's scores have a rank of d_k at most.", zh="每个头的打分矩阵，其秩不超过 d_k。"),
        ),
        Claim(
            "parallel",
            Text(
                en="Heads in parallel make attention faster, though neither parameters nor operations become fewer.",
                zh="各头并行提高了计算效率，尽管参数量与总计算量都没有减少。",
            ),
            Source("002", "2.1(2)"),
        ),
    )
    prediction = Text(
        en="Parameters and products are the same for every number of heads, but scores grow in proportion to it, so "
        "more heads are slower where scores are written out, not faster. Four heads translate a little better than "
        "one, sixteen heads of width 2 worse.",
        zh="参数量与矩阵乘法的运算量与头数无关，但打分的个数与头数成正比，因此在需要写出打分时，头越多越慢，而不是越"
        "快。4 个头的翻译略好于 1 个头，16 个宽度为 2 的头则更差。",
    )
    criterion = Text(
        en="cost: depends if parameters and operations of products are exactly equal for all numbers of heads while "
        "scores grow with power 1.00; supported if scores do not grow either; refuted if the first two differ. "
        "richer: supported if 4 and 16 heads surely have less test loss than 1, refuted if neither has and one "
        "surely more, inconclusive otherwise; depends if the ranks never pass d_k and 16 heads are surely worse "
        "than 4. parallel: supported if 8 heads take surely less than 90 % of one head's time at every length and "
        "in both ways, refuted if surely more than 90 % in all, depends if surely less in one case and more in "
        "another, else inconclusive.",
        zh="cost：各头数下参数量与乘法运算量完全相等，而打分个数按 1.00 次幂增长，则视情况而定；打分也不增长则成立；"
        "前两者不等则不成立。richer：秩从不超过 d_k 且 16 个头确定差于 4 个头，则视情况而定；否则 4 与 16 个头的测试"
        "损失都确定低于 1 个头则成立，都不低且有一个确定更高则不成立，其余尚无定论。parallel：在每种长度、两种算法下"
        "，8 个头的用时都确定低于 1 个头的 90% 则成立，都确定高于 90% 则不成立，有的情形确定更低、有的确定更高，则视"
        "情况而定，否则尚无定论。",
    )
    parts = (
        "clearhead.model.attention.projections:HeadSizes",
        "clearhead.model.accounting.flops:flops",
        "clearhead.model.attention.dot:Dot",
    )
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2.2 and Table 3, rows A and B",
        "Bhojanapalli et al., 2020, arXiv:2002.07028 (low-rank bottleneck)",
    )
    timed = ("time",)

    def cells(self, scale: Scale) -> Iterable[Cell]:
        yield {"part": "counts"}
        for length in scale.pick(quick=(64,), full=(64, 256, 1024)):
            yield {"part": "time", "length": length, "rounds": scale.pick(quick=2, full=9)}
        for seed in scale.seeds(quick=1, full=5):
            for heads in (1, 4, 16):
                updates = scale.pick(quick=15, full=PLAN.updates)
                yield {"part": "translation", "heads": heads, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        if cell["part"] == "counts":
            return [
                {**_counts(heads, wide=wide), "heads": heads, "wide": wide}
                for heads in COUNTS
                for wide in (False, True)
            ]
        if cell["part"] == "time":
            return _times(int(cell["length"] or 0), int(cell["rounds"] or 0))
        return [_translation(int(cell["heads"] or 0), int(cell["updates"] or 0), int(cell["seed"] or 0))]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        narrow = rows.where(part="counts", wide=False)
        power = exponent(narrow.column("heads"), narrow.column("scores"))
        fits = all(row["rank"] <= row["d_head"] for row in narrow)  # type: ignore[operator]
        gains = {heads: _change(rows, heads, 1) for heads in (4, 16)}
        ratios = _ratios(rows)
        slowest, fastest = max(each.mean for each in ratios), min(each.mean for each in ratios)
        return {
            "cost": Judgement(
                _cost(narrow, power.mean),
                Text(
                    en=f"For 1 to 32 heads {_equal(narrow, 'parameters')} parameters and "
                    f"{_equal(narrow, 'operations')} operations; scores grow with power {power.mean:.2f} of the "
                    f"heads.",
                    zh=f"头数从 1 到 32，参数量为 {_equal(narrow, 'parameters')}，运算量为 "
                    f"{_equal(narrow, 'operations')}；打分个数按头数的 {power.mean:.2f} 次幂增长。",
                ),
            ),
            "richer": Judgement(
                _richer(gains, _change(rows, 16, 4), fits=fits),
                Text(
                    en=f"Against one head the test loss changes by {gains[4]} nats with 4 heads and by {gains[16]} "
                    f"with 16; the rank of a head's scores {'never' if fits else 'sometimes'} exceeds d_k.",
                    zh=f"与单头相比，4 个头的测试损失变化 {gains[4]} 奈特，16 个头变化 {gains[16]}；打分矩阵的秩"
                    f"{'从未' if fits else '有时'}超过 d_k。",
                ),
            ),
            "parallel": Judgement(
                _parallel(ratios),
                Text(
                    en=f"8 heads take between {fastest:.2f} and {slowest:.2f} times the time of one head.",
                    zh=f"8 个头的用时是单头的 {fastest:.2f} 到 {slowest:.2f} 倍。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        losses = ", ".join(f"{h} heads {rows.mean('loss', heads=h, part='translation'):.2f}" for h in (1, 4, 16))
        losses_zh = "，".join(f"{h} 个头 {rows.mean('loss', heads=h, part='translation'):.2f}" for h in (1, 4, 16))
        wide = rows.one("parameters", heads=8, wide=True) / rows.one("parameters", heads=8, wide=False)
        worst = max(each.mean for each in _ratios(rows))
        return Answer(
            short=Text(
                en=f"With d_model / h features a head, parameters and products do not depend on the number of "
                f"heads; with full-width heads 8 of them would cost {wide:.1f} times the parameters. What grows "
                f"with h is the number of scores, hence memory and softmax: 8 heads take up to {worst:.1f} times "
                f"the time of one. Test loss in translation, nats: {losses.replace('1 heads', '1 head', 1)}.",
                zh="每个头分到 d_model/h 维时，参数量和矩阵乘法量都与头数无关；若每个头都用全宽，8 个头的参数量会是 "
                f"{wide:.1f} 倍。随头数增长的是打分的个数，内存与 softmax 的开销也随之增长：8 个头的用时最多是单头的 {worst:.1f} "
                f"倍。测试损失（奈特）：{losses_zh}。",
            ),
            imprecise=Text(
                en="Heads side by side are not a way to save time: one wide head is one product too. And narrow "
                "heads are weak alone: the rank of their scores is at most d_k.",
                zh="多头并行并不节省时间，单个宽头同样只是一次乘法。窄头单独的能力有限：其打分矩阵的秩不超过 d_k。",
            ),
            limits=Text(
                en=f"Times of one thread of one processor, forward only, {TOKENS} tokens; translation with width "
                f"32, one learning rate, {len(rows.where(part='translation').distinct('seed'))} seeds.",
                zh=f"用时为单个处理器单线程的前向计算，共 {TOKENS} 个 token；翻译模型宽度 32，单一学习率，"
                f"{len(rows.where(part='translation').distinct('seed'))} 个种子。",
            ),
            caption=Text(
                en="Left: counts against those of one head. Middle: time of a forward pass. Right: test loss in "
                "translation.",
                zh="左：各项计数与单头之比。中：前向计算用时。右：翻译的测试损失。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (left, middle, right) = panels(3, width=3.4)
        for place, name in enumerate(("parameters", "operations", "scores", "rank")):
            own = rows.where(part="counts", wide=False)
            first = own.one(name, heads=1)
            line(
                left,
                COUNTS,
                [own.one(name, heads=h) / first for h in COUNTS],
                f"{name} of a head" if name == "rank" else name,
                place,
            )
        for way in WAYS:
            for length in rows.where(part="time").distinct("length"):
                times = [median(rows.column("seconds", heads=h, length=length, way=way)) * 1e3 for h in COUNTS]
                line(middle, COUNTS, times, f"{way}, n = {length}", len(middle.lines))
        counts = rows.where(part="translation").distinct("heads")
        line(right, counts, [interval(rows.column("loss", heads=h)) for h in counts], "test", 0)
        for axes in (left, middle):
            axes.set_yscale("log")
            axes.legend(fontsize=7)
        for axes in (left, middle, right):
            axes.set_xscale("log", base=2)
        threshold(left, 1.0, "one head")
        label(left, x="heads", y="ratio to one head")
        label(middle, x="heads", y="time (ms)")
        label(right, x="heads (width 32)", y="test loss (nats per token)")
        return figure


@torch.no_grad()
def _counts(heads: int, *, wide: bool) -> Row:
    """What one layer has and does; `wide`: every head has the full width."""
    d_head = WIDTH if wide else WIDTH // heads
    sizes = {"d_model": WIDTH, "heads": heads, "d_head": d_head, "encoder_layers": 1, "position": "none", "bias": False}
    with torch.device("meta"):
        layer = Attend(WIDTH, heads, d_head=d_head)
    return {
        "d_head": d_head,
        "parameters": sum(each.numel() for each in layer.parameters()),
        "operations": flops(skeleton(ModelConfig.model_validate(encoder(5, sizes))), LENGTH, 0)["attention"].forward,
        **({} if wide else _scores(heads)),
    }


def _scores(heads: int) -> Row:
    """How many scores there are for one text, and their largest rank in a head."""
    layer = Attend(WIDTH, heads).double()
    hidden = torch.randn(1, LENGTH, WIDTH, generator=torch.Generator().manual_seed(heads), dtype=torch.float64)
    query, key, _ = layer.projections.all(hidden)
    scores: Tensor = layer.kernel.scores(query, key)  # type: ignore[operator]
    return {"scores": scores.numel(), "rank": int(torch.linalg.matrix_rank(scores[0], rtol=RANK).max())}


@torch.no_grad()
def _times(length: int, rounds: int) -> Iterable[Row]:
    """Seconds of a forward pass; heads and ways take turns, so that each round is a pair."""
    hidden = torch.randn(TOKENS // length, length, WIDTH, generator=torch.Generator().manual_seed(0))
    layers = {heads: Attend(WIDTH, heads).eval() for heads in COUNTS}
    for turn in range(-2, rounds):  # two rounds to warm up
        for way, mix in WAYS.items():
            for heads, layer in layers.items():
                start = perf_counter()
                layer.merge(mix(layer, *layer.projections.all(hidden)))
                seconds = perf_counter() - start
                if turn >= 0:
                    yield {"way": way, "heads": heads, "round": turn, "seconds": seconds}


def _translation(heads: int, updates: int, seed: int) -> Row:
    pairs, test = task("toy_mt", {"pairs": 2000}), task("toy_mt", {"split": "test"})
    model = trained(encoder_decoder(pairs.vocab, {"heads": heads}), pairs, replace(PLAN, updates=updates), seed)
    return {"loss": score(model, test, seed).loss}


def _equal(rows: Rows, column: str) -> str:
    """The one value that all numbers of heads share, or the smallest and the largest."""
    low, high = min(rows.column(column)), max(rows.column(column))
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _cost(narrow: Rows, power: float) -> Verdict:
    if any(len(set(narrow.column(each))) > 1 for each in ("parameters", "operations")):
        return Verdict.REFUTED
    return Verdict.DEPENDS if abs(power - 1.0) < 0.005 else Verdict.SUPPORTED


def _change(rows: Rows, heads: int, other: int) -> Interval:
    """What so many heads do to the test loss, against another number, paired by seed."""
    return interval(rows.where(part="translation").paired("loss", {"heads": heads}, {"heads": other}))


def _richer(gains: Mapping[int, Interval], most: Interval, *, fits: bool) -> Verdict:
    if fits and most.above:
        return Verdict.DEPENDS
    if all(each.below for each in gains.values()):
        return Verdict.SUPPORTED
    worse = any(each.above for each in gains.values()) and not any(each.below for each in gains.values())
    return Verdict.REFUTED if worse else Verdict.INCONCLUSIVE


def _ratios(rows: Rows) -> list[Interval]:
    """Time of 8 heads over time of one, for each length and way: median over the rounds with its interval."""
    found = []
    for length in rows.where(part="time").distinct("length"):
        for way in WAYS:
            own = rows.where(part="time", length=length, way=way)
            logs = [
                log(a) - log(b)
                for a, b in zip(own.column("seconds", heads=8), own.column("seconds", heads=1), strict=True)
            ]
            each = bootstrap(logs)
            found.append(Interval(exp(each.mean), exp(max(each.low, -50.0)), exp(min(each.high, 50.0)), each.count))
    return found


def _parallel(ratios: list[Interval]) -> Verdict:
    if all(each.high < FASTER for each in ratios):
        return Verdict.SUPPORTED
    if all(each.low > FASTER for each in ratios):
        return Verdict.REFUTED
    mixed = any(each.high < FASTER for each in ratios) and any(each.low > FASTER for each in ratios)
    return Verdict.DEPENDS if mixed else Verdict.INCONCLUSIVE
