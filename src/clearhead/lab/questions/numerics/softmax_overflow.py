"""When do the exponentials of softmax leave the number format, and what does subtracting the maximum mend?"""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from clearhead.lab.pictures import label, line, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.model.attention.base import masked_softmax
from clearhead.model.attention.tiled import Tiled
from clearhead.model.mask import OPEN
from clearhead.model.position.base import UNRELATED

FORMATS = ("float16", "bfloat16", "float32", "float64")
WIDTH = 128  # scores in a row
SPACINGS = 1.0  # a threshold may be off by so many steps of the format's own grid
SIZES = (1, 10, 20, 30, 40, 60, 100, 1_000, 10_000, 100_000)  # standard deviations of scores
EXACT = 1e-6  # largest error of a probability
LOW = -200.0  # a score whose exponential is 0 in float32


@QUESTIONS.register("softmax-overflow")
class SoftmaxOverflow(Question):
    """Thresholds by bisection, failures counted over scales, and the cases that the shift does not mend."""

    topic = "numerics"
    title = Text(
        en="When do the exponentials of softmax overflow or underflow, and does subtracting the maximum mend it all?",
        zh="softmax 的指数何时上溢或下溢？减去最大值能否解决所有问题？",
    )
    sources = (Source("004", "2"),)
    claims = (
        Claim(
            "thresholds",
            Text(
                en="Large scores overflow; very negative ones become 0, and when all do, softmax divides by 0.",
                zh="过大的打分会上溢；过小的打分变为 0，若全部为 0，softmax 就会除以零。",
            ),
            Source("004", "2"),
        ),
        Claim(
            "cure",
            Text(en="Subtracting the largest score mends both.", zh="减去最大的打分，两个问题都能解决。"),
            Source("004", "2"),
            note=Text(
                en="Nothing is said about logarithms, or about rows without a finite score.",
                zh="没有提到取对数的情形，也没有提到没有有限打分的行。",
            ),
        ),
    )
    prediction = Text(
        en="exp overflows at the logarithm of the largest number and gives 0 below that of half the smallest one. With the "
        "shift no finite row fails, yet the logarithm of a probability that underflowed is -inf, and a row of -inf is NaN.",
        zh="指数函数在最大数的对数处上溢，在最小数一半的对数以下变为 0。减去最大值后，有限的行不再出错；但下溢为 0 的概率取对数得到 -inf，"
        "全为 -inf 的行得到 NaN。",
    )
    criterion = Text(
        en="thresholds: supported if each lies within one step of the format's grid of the theory and a row of -200 gives NaN "
        "without the shift in float32. cure: depends if with the shift no finite row fails and no probability is off by more "
        "than 1e-6, yet log(softmax) of (200, 0) is -inf where log_softmax gives -200, or a row of -inf is NaN; supported if "
        "none of these fails; refuted if a finite row does.",
        zh="阈值：各格式的阈值与理论值相差不超过一个格点，且 float32 下全为 -200 的行不减最大值时得到 NaN，则成立。解决：若减去最大值后"
        "有限的行都不出错、概率误差不超过 1e-6，但 (200, 0) 的 log(softmax) 为 -inf 而 log_softmax 为 -200，或全为 -inf 的行得到 NaN，"
        "则视情况而定；都不出错则成立；有限的行出错则不成立。",
    )
    parts = ("clearhead.model.attention.base:masked_softmax", "clearhead.model.attention.tiled:Tiled")
    references = (
        "Blanchard, Higham and Higham, 2021, Accurately computing the log-sum-exp and softmax functions, section 1",
        "Milakov and Gimelshein, 2018, arXiv:1805.02867, section 3 (online softmax)",
        "Goodfellow, Bengio and Courville, 2016, Deep Learning, section 4.1",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        yield from ({"part": "threshold", "format": each} for each in FORMATS)
        yield {"part": "cases"}
        for seed in scale.seeds(quick=1, full=10):
            for size in SIZES:
                yield {"part": "failures", "score_scale": size, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        if cell["part"] == "threshold":
            return [_thresholds(getattr(torch, str(cell["format"])))]
        return (
            _cases() if cell["part"] == "cases" else _failures(float(cell["score_scale"] or 0), int(cell["seed"] or 0))
        )

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        limits = rows.where(part="threshold")
        off = max(max(limits.column("overflow_off")), max(limits.column("underflow_off")))
        case = {str(row["case"]): row for row in rows.where(part="cases")}
        divided = math.isnan(float(case["all low"]["naive"] or 0))
        failing = sum(rows.column("failed", part="failures", way="shifted") + rows.column("failed", way="online"))
        error = max(rows.column("error", part="failures", way="shifted"))
        log, stable = (float(case["log"][way] or 0) for way in ("naive", "shifted"))
        unmended = math.isinf(log) or math.isnan(float(case["all hidden"]["shifted"] or 0))
        right = failing == 0 and error <= EXACT
        mended = (Verdict.DEPENDS if unmended else Verdict.SUPPORTED) if right else Verdict.REFUTED
        return {
            "thresholds": Judgement(
                Verdict.SUPPORTED if off <= SPACINGS and divided else Verdict.REFUTED,
                Text(
                    en=f"No threshold is further from theory than {off:.2g} times the step of its format's grid; in float32 exp overflows "
                    f"above {limits.one('overflow', format='float32'):.4f} and is 0 below "
                    f"{limits.one('underflow', format='float32'):.2f}, in float16 above "
                    f"{limits.one('overflow', format='float16'):.2f}. A row of {LOW:.0f} gives NaN: {'yes' if divided else 'no'}.",
                    zh=f"各阈值与理论值相差不超过所在格式格距的 {off:.2g} 倍；float32 在 {limits.one('overflow', format='float32'):.4f} 以上上溢、"
                    f"在 {limits.one('underflow', format='float32'):.2f} 以下为 0，float16 在 "
                    f"{limits.one('overflow', format='float16'):.2f} 以上上溢。全为 {LOW:.0f} 的行得到 NaN：{'是' if divided else '否'}。",
                ),
            ),
            "cure": Judgement(
                mended,
                Text(
                    en=f"Shifted, {failing:.0f} finite rows fail and the largest error is {error:.1g}. The log of softmax(200, 0) is "
                    f"{log} for the second, log_softmax gives {stable}.",
                    zh=f"减去最大值后有 {failing:.0f} 个有限行出错，最大误差 {error:.1g}。softmax(200, 0) 第二项取对数为 {log}，"
                    f"log_softmax 为 {stable}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        naive = rows.where(part="failures", way="naive")
        share = naive.mean("failed", score_scale=1000) / naive.mean("tried", score_scale=1000)
        failing = sum(rows.column("failed", part="failures", way="shifted"))
        half = rows.one("overflow", part="threshold", format="float16")
        return Answer(
            short=Text(
                en=f"Without the shift {share:.0%} of random rows with scores of spread 1,000 fail in float32. With it {failing:.0f} rows "
                "of any spread do: the largest exponential is 1, so the sum is at least 1. The shift protects the probabilities, not their logarithms: use "
                "log_softmax for a loss. A row whose keys are all hidden has no maximum to subtract; here such a query gets zeros.",
                zh=f"不减最大值时，打分标准差为 1000 的随机行在 float32 下有 {share:.0%} 出错；减去之后，各种标准差下共有 {failing:.0f} 行"
                "出错，因为最大的指数项为 1，分母至少为 1。它保护的是概率，而不是概率的对数：计算损失应当用 log_softmax。所有键都被遮住的行没有最大值可减；"
                "本库规定这样的查询得到零向量。",
            ),
            imprecise=Text(
                en=f"Thresholds belong to a number format; float16 overflows above {half:.2f} already. Scores that underflow to 0 are harmless in "
                "softmax and fatal under a logarithm.",
                zh=f"阈值取决于数字格式，float16 在 {half:.2f} 以上就上溢。下溢为 0 的项在 softmax 中无害，取对数时却致命。",
            ),
            limits=Text(
                en=f"Rows of {WIDTH} Gaussian scores, float32, on a CPU; other exp implementations may flush subnormal numbers to 0.",
                zh=f"每行 {WIDTH} 个高斯打分，float32，CPU；其他 exp 实现可能把次正规数直接清零。",
            ),
            caption=Text(
                en="Share of rows that come out as NaN, by the spread of their scores.",
                zh="得到 NaN 的行的比例，随打分标准差变化。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (axes,) = panels(1, width=6.0)
        scales = rows.where(part="failures").distinct("score_scale")
        for place, way in enumerate(("naive", "shifted", "online")):
            found = [rows.where(way=way, score_scale=each) for each in scales]
            line(axes, scales, [100 * each.mean("failed") / each.mean("tried") for each in found], way, place)
        axes.set_xscale("log")
        axes.legend()
        label(axes, x="standard deviation of the scores", y="rows with NaN (%)", title="softmax in float32")
        return figure


def _thresholds(dtype: torch.dtype) -> Row:
    """Where exp of a format turns infinite and where it turns 0, and how far that is from theory in grid steps."""
    info = torch.finfo(dtype)
    smallest = info.smallest_normal * info.eps  # subnormal
    high = _turn(lambda x: bool(torch.isinf(_exp(x, dtype))), 0.0, 1000.0)
    low = -_turn(lambda x: bool(_exp(-x, dtype) == 0), 0.0, 1000.0)
    expected = math.log(info.max), math.log(smallest) - math.log(2)
    return {
        "overflow": high,
        "overflow_theory": expected[0],
        "overflow_off": abs(high - expected[0]) / _spacing(high, info.eps),
        "underflow": low,
        "underflow_theory": expected[1],
        "underflow_off": abs(low - expected[1]) / _spacing(low, info.eps),
    }


def _exp(x: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor([x], dtype=dtype).exp()[0]


def _turn(found: Callable[[float], bool], low: float, high: float) -> float:
    """The point between low (not found) and high (found) where it turns, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def _spacing(x: float, eps: float) -> float:
    """The step of a format's grid at x."""
    return float(eps * 2.0 ** math.floor(math.log2(abs(x))))


def _failures(size: float, seed: int) -> Iterable[Row]:
    scores = size * torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(seed))
    right = masked_softmax(scores.double(), OPEN)
    tiled = Tiled(1, WIDTH, 0.0, block=32, scale=1.0)
    unit = torch.eye(WIDTH)[None, None]  # keys and values that give the scores back, and the weights
    ways = {
        "naive": scores.exp() / scores.exp().sum(dim=-1, keepdim=True),
        "shifted": masked_softmax(scores, OPEN),
        "online": tiled(scores[None, None], unit, unit, OPEN, UNRELATED)[0, 0],
    }
    for way, found in ways.items():
        failed = found.isnan().any(dim=-1)
        error = (found.double() - right)[~failed].abs()
        worst = float(error.max()) if error.numel() else math.nan
        yield {"way": way, "failed": int(failed.sum()), "tried": len(scores), "error": worst}


def _cases() -> Iterable[Row]:
    """What the shift mends and what it does not, in float32; `naive` without it, `shifted` with it."""
    low = torch.full((4,), LOW)
    yield {"case": "all low", "naive": float((low.exp() / low.exp().sum())[0]), "shifted": float(low.softmax(0)[0])}
    hidden = torch.full((4,), -math.inf)
    yield {"case": "all hidden", "naive": math.nan, "shifted": float(hidden.softmax(0)[0])}
    apart = torch.tensor([-LOW, 0.0])
    yield {"case": "log", "naive": float(apart.softmax(0).log()[1]), "shifted": float(F.log_softmax(apart, 0)[1])}
