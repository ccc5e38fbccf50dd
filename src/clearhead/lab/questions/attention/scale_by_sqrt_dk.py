"""Why are scores scaled down before softmax?"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.lab.parts.lookup import PLAN, lookup, reader
from clearhead.lab.pictures import label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.training import score, trained
from clearhead.model.attention.dot import Dot
from clearhead.model.mask import OPEN
from clearhead.model.position.base import UNRELATED

KEYS, QUERIES, SETS = 64, 100, 20  # sets of keys, each read by so many queries
VANISHED = 0.01  # an unscaled median below this share of the scaled one counts as vanished
EXPLODED = 10.0  # an unscaled largest above so many times the scaled one counts as exploded
SAME = 1e-12  # largest change of a dimension's share of a score
WIDE = 256  # width of the heads that are trained


@QUESTIONS.register("scale-by-sqrt-dk")
class ScaleBySqrtDk(Question):
    """Random queries and keys of growing width, then a lookup task with wide heads."""

    topic = "attention"
    title = Text(
        en="Why divide the scores by sqrt(d_k): do gradients vanish without it, explode, or both?",
        zh="打分为什么要除以 √d_k？不除时梯度是消失、爆炸，还是两者兼有？",
    )
    sources = (
        Source("000", "4"),
        Source("001", "Q4"),
        Source("002", "1.2(1)"),
        Source("002", "1.2(1)①"),
        Source("002", "1.2(1)②"),
        Source("003", "I.4"),
        Source("003", "IV.20"),
        Source("004", "13"),
    )
    claims = (
        Claim(
            "vanishing",
            Text(
                en="Unscaled scores push softmax into saturation, and its gradients vanish.",
                zh="不缩放的打分会把 softmax 推入饱和区，使梯度消失。",
            ),
            Source("000", "4"),
        ),
        Claim(
            "explosion",
            Text(en="The scale keeps gradients from exploding.", zh="缩放可以防止梯度爆炸。"),
            Source("002", "1.2(1)①"),
            note=Text(en="The other documents say vanishing.", zh="其他几份材料说的是梯度消失。"),
        ),
        Claim(
            "balance",
            Text(
                en="The scale keeps single dimensions from dominating a score.",
                zh="缩放能平衡各个维度，避免少数维度主导打分。",
            ),
            Source("002", "1.2(1)②"),
            note=Text(en="One common factor cannot change proportions.", zh="同一个系数改变不了各维度的比例。"),
        ),
        Claim(
            "growth",
            Text(en="The similarity of two vectors grows with their width.", zh="两个向量的相似度随维度增大。"),
            Source("002", "1.2(1)①"),
            note=Text(en="Which statistic of it grows is not said.", zh="没有说明增大的是哪个统计量。"),
        ),
    )
    prediction = Text(
        en="Both: the standard deviation of a score grows like sqrt(d_k), so most rows put all weight on one key "
        "and their gradient vanishes, while the few rows with a near tie pass gradients that are about sqrt(d_k) "
        "times larger.",
        zh="两者兼有：打分的标准差按 √d_k 增长，多数行的权重集中到一个键上而梯度消失；少数近乎并列的行，其梯度却放大约 "
        "√d_k 倍。",
    )
    criterion = Text(
        en="vanishing: supported if at the largest width the median unscaled gradient is below 1 % of the scaled "
        "one, else refuted. explosion: depends if there the largest unscaled gradient is also above 10 times the "
        "scaled one while the median vanishes, supported if the median does not vanish, refuted if the largest is "
        "not above. balance: refuted if no dimension's share of a score changes by more than 1e-12. growth: depends "
        "if the mean score stays within 4 standard errors of 0 while its standard deviation grows.",
        zh="消失：在最大宽度上，未缩放的梯度中位数低于缩放时的 1% 则成立，否则不成立。爆炸：若中位数消失的同时最大梯"
        "度超过缩放时的 10 倍，则视情况而定；中位数未消失而最大值超过则成立；最大值未超过则不成立。平衡：各维度占比"
        "的变化不超过 1e-12 则不成立。增大：打分均值与 0 相差不超过 4 个标准误而标准差增大，则视情况而定。",
    )
    parts = ("clearhead.model.attention.dot:Dot", "clearhead.model.attention.base:masked_softmax")
    references = ("Vaswani et al., 2017, arXiv:1706.03762, section 3.2.1 and footnote 4",)

    def cells(self, scale: Scale) -> Iterable[Cell]:
        widths = scale.pick(quick=(4, 64, 4096), full=(4, 16, 64, 256, 1024, 4096))
        for seed in scale.seeds(quick=1, full=3):
            for d_k in widths:
                yield {"part": "random", "d_k": d_k, "seed": seed}
        updates = scale.pick(quick=20, full=PLAN.updates)
        for seed in scale.seeds(quick=1, full=3):
            for rate in scale.pick(quick=(3e-3,), full=(1e-3, 3e-3)):
                for scaled in (True, False):
                    yield {"part": "training", "rate": rate, "scaled": scaled, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        if cell["part"] == "training":
            return [self._learning(cell)]
        return self._gradients(int(cell["d_k"] or 0), int(cell["seed"] or 0))

    def _gradients(self, d_k: int, seed: int) -> Iterable[Row]:
        """What reaches the queries when the weights get a random gradient."""
        generator = torch.Generator().manual_seed(seed)
        query = torch.randn(SETS, 1, QUERIES, d_k, generator=generator)
        key = torch.randn(SETS, 1, KEYS, d_k, generator=generator)
        above = torch.randn(SETS, 1, QUERIES, KEYS, generator=generator)
        for scaled in (True, False):
            kernel = Dot(1, d_k, 0.0) if scaled else Dot(1, d_k, 0.0, scale=1.0)
            asking = query.clone().requires_grad_()
            weights = kernel.weights(asking, key, OPEN, UNRELATED)  # (sets, 1, queries, keys)
            (gradient,) = torch.autograd.grad(weights, asking, above)
            norms = gradient.norm(dim=-1).flatten()  # one for each query
            scores = kernel.scores(query, key)
            yield {
                "scaled": scaled,
                "score_mean": float(scores.mean()),
                "score_std": float(scores.std()),
                "scores": scores.numel(),
                "largest_weight": float(weights.detach().amax(dim=-1).mean()),
                "gradient_median": float(norms.median()),
                "gradient_largest": float(norms.max()),
                "share_change": _share_change(query[0, 0, :8].double(), key[0, 0].double(), kernel),
            }

    def _learning(self, cell: Cell) -> Row:
        """What a one-head model has learned of a lookup; each variant is tried at the same rates."""
        attention = {"kind": "dot", "exponent": 0.5 if cell["scaled"] else 0.0}
        plan = replace(PLAN, updates=int(cell["updates"] or 0), rate=float(cell["rate"] or 0))
        config = reader({"heads": 1, "d_head": WIDE, "attention": attention})
        seed = int(cell["seed"] or 0)
        return {"accuracy": score(trained(config, lookup(), plan, seed), lookup(), seed).accuracy}

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        wide = max(rows.where(part="random").distinct("d_k"))
        median, largest = _ratio(rows, wide, "gradient_median"), _ratio(rows, wide, "gradient_largest")
        vanished, exploded = median < VANISHED, largest > EXPLODED
        change = max(rows.column("share_change"))
        still, growing = _growth(rows)
        explosion = (Verdict.DEPENDS if vanished else Verdict.SUPPORTED) if exploded else Verdict.REFUTED
        return {
            "vanishing": Judgement(
                Verdict.SUPPORTED if vanished else Verdict.REFUTED,
                Text(
                    en=f"At d_k = {wide} the median gradient without the scale is {median:.2g} times that with it.",
                    zh=f"d_k = {wide} 时，不缩放的梯度中位数是缩放时的 {median:.2g} 倍。",
                ),
            ),
            "explosion": Judgement(
                explosion,
                Text(
                    en=f"At d_k = {wide} the largest gradient without the scale is {largest:.3g} times that with it.",
                    zh=f"d_k = {wide} 时，不缩放的最大梯度是缩放时的 {largest:.3g} 倍。",
                ),
            ),
            "balance": Judgement(
                Verdict.REFUTED if change <= SAME else Verdict.SUPPORTED,
                Text(
                    en=f"No dimension's share of a score changes by more than {change:.1g} (float64).",
                    zh=f"各维度在打分中的占比，变化最大不超过 {change:.1g}（float64）。",
                ),
            ),
            "growth": Judgement(
                (Verdict.DEPENDS if growing else Verdict.REFUTED) if still else Verdict.INCONCLUSIVE,
                Text(
                    en=f"The mean score stays at 0; its standard deviation at d_k = {wide} is {_std(rows, wide):.3g}.",
                    zh=f"打分均值保持为 0；d_k = {wide} 时标准差为 {_std(rows, wide):.3g}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        wide = max(rows.where(part="random").distinct("d_k"))
        weight = rows.mean("largest_weight", d_k=wide, scaled=False, part="random")
        with_scale, without = _best(rows, scaled=True), _best(rows, scaled=False)
        runs = len(rows.where(part="training").distinct("seed"))
        return Answer(
            short=Text(
                en=f"A score of two random vectors has a standard deviation of sqrt(d_k). Without the scale and at "
                f"d_k = {wide} one key takes {weight:.0%} of the weight, so the typical gradient vanishes; the rare "
                f"rows in which two keys tie pass gradients that are far too large. Both happen at once. Trained on "
                f"a lookup with heads of width {WIDE}, the model gets {with_scale:.0%} right with the scale and "
                f"{without:.0%} without, each at its best rate.",
                zh=f"两个随机向量的打分，其标准差为 √d_k。不缩放且 d_k = {wide} 时，一个键就占去 {weight:.0%} 的权"
                f"重，因此典型的梯度会消失；而两个键打分相近的少数行，梯度又过大。两种现象同时存在。在查表任务上用宽度 "
                f"{WIDE} 的头训练，各取最佳学习率，缩放时正确率 {with_scale:.0%}，不缩放时 {without:.0%}。",
            ),
            imprecise=Text(
                en="It is the width of a head that matters, not the length of the text. The mean of the scores does "
                "not grow, their spread does. A single factor is a temperature: it cannot balance dimensions.",
                zh="起作用的是每个头的宽度，而不是文本长度。增大的不是打分的均值，而是离散程度。单个系数相当于温度，无"
                "法平衡各维度。",
            ),
            limits=Text(
                en=f"Gaussian queries and keys, {KEYS} keys; training with {runs} seeds and few rates on one small "
                f"task.",
                zh=f"查询与键取自高斯分布，{KEYS} 个键；训练部分只有一个小任务、{runs} 个随机种子和少数几个学习率。",
            ),
            caption=Text(
                en="Left: the spread of scores. Right: gradients that reach a query; the median falls and the "
                "largest grows.",
                zh="左：打分的离散程度。右：到达查询的梯度，中位数下降而最大值上升。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        random = rows.where(part="random")
        widths = random.distinct("d_k")
        figure, (spread, gradients) = panels(2)
        for place, (scaled, name) in enumerate(((False, "unscaled"), (True, "divided by sqrt(d_k)"))):
            line(spread, widths, [random.mean("score_std", d_k=d, scaled=scaled) for d in widths], name, place)
            for offset, what in ((0, "median"), (2, "largest")):
                values = [random.mean(f"gradient_{what}", d_k=d, scaled=scaled) for d in widths]
                line(gradients, widths, values, f"{what}, {name}", place + offset)
        for axes in (spread, gradients):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.legend(fontsize=8)
        threshold(spread, 1.0, "1")
        label(spread, x="width of a head d_k", y="standard deviation of a score")
        label(gradients, x="width of a head d_k", y="norm of the gradient at a query")
        return figure


def _share_change(query: Tensor, key: Tensor, kernel: Dot) -> float:
    """The most that a dimension's share of a score, (queries, d_k) with (keys, d_k), changes by the kernel's scale."""
    plain = query.T[:, None, :, None] * key.T[:, None, None, :]  # (d_k, 1, queries, keys)
    scaled = kernel.scores(query.T[:, None, :, None], key.T[:, None, :, None])  # each dimension as a head of its own
    return float((_shares(plain) - _shares(scaled)).abs().max())


def _shares(products: Tensor) -> Tensor:
    return products / products.abs().sum(dim=0)


def _best(rows: Rows, *, scaled: bool) -> float:
    """The mean accuracy at the better of the rates."""
    runs = rows.where(part="training", scaled=scaled)
    return max(runs.mean("accuracy", rate=each) for each in runs.distinct("rate"))


def _ratio(rows: Rows, d_k: int, column: str) -> float:
    """Unscaled over scaled."""
    unscaled, scaled = (rows.mean(column, part="random", d_k=d_k, scaled=each) for each in (False, True))
    return unscaled / scaled


def _std(rows: Rows, d_k: int) -> float:
    return rows.mean("score_std", part="random", d_k=d_k, scaled=False)


def _growth(rows: Rows) -> tuple[bool, bool]:
    """Whether the mean of unscaled scores stays at 0, and whether their standard deviation grows with the width."""
    random = rows.where(part="random", scaled=False)
    counts = zip(*(random.column(each) for each in ("score_mean", "score_std", "scores")), strict=True)
    still = all(
        abs(mean) < 4 * std / count**0.5 for mean, std, count in counts
    )  # two scores of a query are uncorrelated
    spread = [_std(rows, each) for each in random.distinct("d_k")]
    return still, spread == sorted(spread)
