"""What do dot-product and additive attention cost?"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from statistics import median

import torch
from matplotlib.figure import Figure

from clearhead.lab.parts.operations import counted
from clearhead.lab.pictures import label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, exponent, interval
from clearhead.model.attention.additive import Additive, score_each_pair
from clearhead.model.attention.dot import Dot

WIDTHS = (8, 16, 32, 64, 128, 256)
WAYS = ("dot", "additive", "additive, each pair anew")
RUNS = 9  # of which the median counts
LINEAR, SQUARE, MARGIN = 1.0, 2.0, 0.1  # exponents of the operations for a pair
FASTER = 2.0  # times


@QUESTIONS.register("dot-vs-additive-cost")
class DotVsAdditiveCost(Question):
    """Operations by listening to every torch call, and time side by side on one thread."""

    timed = ("time",)
    topic = "attention"
    title = Text(
        en="What do dot-product and additive scores cost in operations, memory and time?",
        zh="点积打分与加性打分在运算量、内存和耗时上差多少？",
    )
    sources = (Source("000", "3"), Source("001", "Q3"), Source("001", "R2"), Source("003", "I.3"))
    claims = (
        Claim(
            "same-order",
            Text(en="Both take about the same amount of computation.", zh="两者的计算量大致相同。"),
            Source("000", "3"),
            note=Text(en="It does not say what is counted.", zh="没有说明统计的是什么。"),
        ),
        Claim(
            "faster",
            Text(
                en="The dot product was chosen for its speed, although the work of both is similar, as additive scores take a hidden layer.",
                zh="选用点积是因为快；加性打分要经过一个隐藏层，总工作量其实与点积相近。",
            ),
            Source("001", "Q3"),
        ),
        Claim(
            "square",
            Text(
                en="A dot-product score takes O(d) and an additive one O(d²).",
                zh="每个点积打分为 O(d)，每个加性打分为 O(d²)。",
            ),
            Source("001", "R2"),
            note=Text(
                en="The two d x d products belong to tokens, not to pairs.",
                zh="两个 d×d 的乘积属于每个词，而不是每一对词。",
            ),
        ),
    )
    prediction = Text(
        en="For a pair both take O(d); O(d²) comes only from projecting again for every pair. In time the dot product is far ahead, as it is "
        "one matrix product while the additive form writes n² x d numbers to memory and takes as many tanh.",
        zh="对每一对词两者都是 O(d)；只有为每一对重新投影才是 O(d²)。实际耗时点积遥遥领先，因为它是一次矩阵乘法，而加性打分要写出 n²×d 个数"
        "并计算同样多的 tanh。",
    )
    criterion = Text(
        en="same-order: supported if the exponents in d of the operations for a pair are 1.0 +- 0.1 for dot and for additive, else refuted; "
        "constants are shown and not judged. faster: supported if the additive time is more than twice that of dot with the whole 95 % "
        "interval, at every d from 16 on; refuted if at some d the whole interval is at most twice; else inconclusive. square: supported if "
        "the exponent of additive scores is 2.0 +- 0.1; refuted if dot and additive show 1.0 +- 0.1 and only projecting anew for each pair "
        "2.0 +- 0.1; else inconclusive.",
        zh="同阶：若点积与加性打分每对运算量对 d 的指数都在 1.0±0.1 内，则成立，否则不成立；常数只列出，不作判断。更快：若 d 从 16 起，加性耗时都在点积的两倍以上（整个 95% 区间），"
        "则成立；若某个 d 上整个区间都不超过两倍，则不成立；否则尚无定论。平方：若加性打分的指数为 2.0±0.1，则成立；若点积与加性为 1.0±0.1、"
        "只有为每对重新投影时才为 2.0±0.1，则不成立；否则尚无定论。",
    )
    parts = (
        "clearhead.model.attention.dot:Dot",
        "clearhead.model.attention.additive:Additive",
        "clearhead.model.attention.additive:score_each_pair",
    )
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2.1",
        "Bahdanau, Cho and Bengio, 2015, arXiv:1409.0473, section 3.1 and appendix A.1.2",
        "Luong, Pham and Manning, 2015, arXiv:1508.04025, section 3.1",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        length = scale.pick(quick=64, full=256)
        for seed in scale.seeds(quick=2, full=5):
            for width in WIDTHS:
                yield {"part": "time", "d": width, "length": length, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        width, length = int(cell["d"] or 0), int(cell["length"] or 0)
        generator = torch.Generator().manual_seed(int(cell["seed"] or 0))
        query, key = torch.randn(2, 1, 1, length, width, generator=generator)
        few, anew = 32, torch.randn(2, width, width, generator=generator)
        dot, additive = Dot(1, width, 0.0), Additive(1, width, 0.0)
        vector = additive.vector[0].detach()
        ways: dict[str, tuple[int, Callable[[], object]]] = {
            "dot": (length, lambda: dot.scores(query, key)),
            "additive": (length, lambda: additive.scores(query, key)),
            "additive, each pair anew": (
                few,
                lambda: score_each_pair(query[0, :, :few], key[0, :, :few], anew[0], anew[1], vector),
            ),
        }
        seconds = _timed({way: compute for way, (_, compute) in ways.items()})
        for way, (tokens, compute) in ways.items():
            found = counted(compute)
            pairs = tokens * tokens
            yield {
                "way": way,
                "operations_a_pair": found.operations / pairs,
                "largest_bytes_a_pair": found.largest / pairs,
                "nanoseconds_a_pair": 1e9 * seconds[way] / pairs,
            }

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        powers = {way: _power(rows, way) for way in WAYS}
        linear = all(abs(powers[way] - LINEAR) <= MARGIN for way in WAYS[:2])
        anew, square = (abs(powers[way] - SQUARE) <= MARGIN for way in (WAYS[2], WAYS[1]))
        ratios = {d: _ratio(rows, d) for d in WIDTHS}
        closest = min((ratios[d] for d in WIDTHS if d >= 16), key=lambda each: each.low)
        refuted = any(ratios[d].high <= FASTER for d in WIDTHS if d >= 16)
        work = _operations(rows, "additive", 256) / _operations(rows, "dot", 256)
        shown = ", ".join(f"{way} {power:.2f}" for way, power in powers.items())
        exponents = Text(
            en=f"Exponents of the operations for a pair in d: {shown}. At d = 256 additive scores take {work:.1f} times the operations of dot.",
            zh=f"每对运算量对 d 的指数：点积 {powers['dot']:.2f}，加性 {powers['additive']:.2f}，每对重新投影 {powers[WAYS[2]]:.2f}。"
            f"d = 256 时加性打分的运算量为点积的 {work:.1f} 倍。",
        )
        return {
            "same-order": Judgement(Verdict.SUPPORTED if linear else Verdict.REFUTED, exponents),
            "faster": Judgement(
                Verdict.SUPPORTED if closest.low > FASTER else Verdict.REFUTED if refuted else Verdict.INCONCLUSIVE,
                Text(
                    en=f"At that width of 16 or more at which the two come closest, additive scores take {closest} times as long as dot products.",
                    zh=f"在 d 不小于 16 的宽度中，取两者最接近的一个，加性打分耗时为点积的 {closest} 倍。",
                ),
            ),
            "square": Judgement(
                Verdict.SUPPORTED if square else Verdict.REFUTED if linear and anew else Verdict.INCONCLUSIVE, exponents
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        low, high = _ratio(rows, 16).mean, _ratio(rows, 256).mean
        memory = rows.mean("largest_bytes_a_pair", way="additive", d=256) / rows.mean(
            "largest_bytes_a_pair", way="dot", d=256
        )
        powers = [_power(rows, way) for way in WAYS[:2]]
        work = _operations(rows, "additive", 256) / _operations(rows, "dot", 256)
        length = int(rows.one("length", d=8, way="dot", seed=rows[0]["seed"]))
        return Answer(
            short=Text(
                en=f"The operations for a pair grow as d to the power {powers[0]:.2f} for dot products and {powers[1]:.2f} for additive scores, which "
                f"need {work:.1f} times as many at d = 256. On this processor additive scores take {low:.1f} times as long at d = 16 and "
                f"{high:.1f} times at d = 256, and their largest tensor is {memory:.0f} times as big: the dot product is one matrix product, the "
                "additive form makes a number for each pair and dimension.",
                zh=f"每对的运算量，点积随 d 的 {powers[0]:.2f} 次方增长，加性打分随 {powers[1]:.2f} 次方增长；d = 256 时后者为前者的 {work:.1f} 倍。"
                f"在本机上，加性打分在 d = 16 时耗时为 {low:.1f} 倍，d = 256 时为 {high:.1f} 倍，最大的张量为 {memory:.0f} 倍：点积是一次矩阵乘法，"
                "加性打分则要为每一对、每一维产生一个数。",
            ),
            imprecise=Text(
                en="O(d²) counts the projections again for every pair. They are applied once to each token, as W_Q and W_K are. 'Similar work' "
                "and 'faster' do not contradict each other: operations are not time.",
                zh="O(d²) 是把投影为每一对重复计算了；投影对每个词只做一次，与 W_Q、W_K 一样。“工作量相近”与“更快”并不矛盾：运算量不等于时间。",
            ),
            limits=Text(
                en=f"One thread of one processor, {length} queries and keys, float32, forward scores only; a fused kernel may narrow the gap.",
                zh=f"单处理器单线程，{length} 个查询与键，float32，只计前向打分；融合内核可能缩小差距。",
            ),
            caption=Text(
                en="Left: operations for a pair. Right: how many times longer additive scores take.",
                zh="左：每对的运算量。右：加性打分耗时为点积的倍数。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (operations, times) = panels(2)
        for place, way in enumerate(WAYS):
            line(operations, WIDTHS, [_operations(rows, way, d) for d in WIDTHS], way, place)
        line(times, WIDTHS, [_ratio(rows, d) for d in WIDTHS], "additive / dot")
        threshold(times, FASTER, "criterion")
        for axes in (operations, times):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.legend(fontsize=8)
        label(operations, x="width d", y="operations for a pair")
        label(times, x="width d", y="time of additive / time of dot")
        return figure


def _timed(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, taken in turns after two warm-up rounds."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with torch.no_grad():
        for _ in range(2 + RUNS):
            for way, compute in ways.items():
                start = time.perf_counter()
                compute()
                seconds[way].append(time.perf_counter() - start)
    return {way: median(each[2:]) for way, each in seconds.items()}


def _operations(rows: Rows, way: str, width: int) -> float:
    """Operations for a pair."""
    return rows.mean("operations_a_pair", way=way, d=width)


def _power(rows: Rows, way: str) -> float:
    """The exponent in d of the operations for a pair, from d = 32 on."""
    return exponent([float(d) for d in WIDTHS[2:]], [_operations(rows, way, d) for d in WIDTHS[2:]]).mean


def _ratio(rows: Rows, width: int) -> Interval:
    """Additive over dot, by seed; the mean and its interval are taken of the logarithms, as ratios ask for."""
    dot, additive = (rows.column("nanoseconds_a_pair", way=way, d=width) for way in WAYS[:2])
    logs = interval([math.log(a / b) for a, b in zip(additive, dot, strict=True)])
    return Interval(math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high), logs.count)
