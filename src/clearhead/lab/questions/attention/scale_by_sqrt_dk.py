"""Why are scores scaled down before softmax?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.lab.pictures import label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.training import Plan, build, decoder, score, task, train
from clearhead.model.attention.dot import Dot
from clearhead.model.mask import OPEN
from clearhead.model.position.base import UNRELATED

KEYS, QUERIES, SETS = 64, 100, 20  # sets of keys, each read by so many queries
VANISHED = 0.01  # an unscaled median below this share of the scaled one counts as vanished
EXPLODED = 10.0  # an unscaled largest above so many times the scaled one counts as exploded
SAME = 1e-12  # largest change of a dimension's share of a score
LEARNED = 0.9  # accuracy that a trained model is waited for


@QUESTIONS.register("scale-by-sqrt-dk")
class ScaleBySqrtDk(Question):
    """Random queries and keys of growing width, then a lookup task with wide heads."""

    topic = "attention"
    title = Text(
        en="Why divide the scores by sqrt(d_k): do gradients vanish without it, explode, or both?",
        zh="打分为什么要除以 √d_k?不除时梯度是消失、爆炸,还是两者兼有?",
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
                zh="不缩放的打分会把 softmax 推入饱和区,使梯度消失。",
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
                zh="缩放能平衡各个维度,避免少数维度主导打分。",
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
        en="Both: the standard deviation of a score grows like sqrt(d_k), so most rows put all weight on one key and their "
        "gradient vanishes, while the few rows with a near tie pass gradients that are about sqrt(d_k) times larger.",
        zh="两者兼有:打分的标准差按 √d_k 增长,多数行的权重集中到一个键上而梯度消失;少数近乎并列的行,其梯度却放大约 √d_k 倍。",
    )
    criterion = Text(
        en="vanishing: supported if at the largest width the median unscaled gradient is below 1 % of the scaled one, else "
        "refuted. explosion: depends if there the largest unscaled gradient is also above 10 times the scaled one while the "
        "median vanishes, supported if the median does not vanish, refuted if the largest is not above. balance: refuted if no "
        "dimension's share of a score changes by more than 1e-12. growth: depends if the mean score stays within 4 standard "
        "errors of 0 while its standard deviation grows.",
        zh="消失:在最大宽度上,未缩放的梯度中位数低于缩放时的 1% 则成立,否则不成立。爆炸:若中位数消失的同时最大梯度超过缩放时的 10 倍,"
        "则视情况而定;中位数未消失而最大值超过则成立;最大值未超过则不成立。平衡:各维度占比的变化不超过 1e-12 则不成立。"
        "增大:打分均值与 0 相差不超过 4 个标准误而标准差增大,则视情况而定。",
    )
    parts = ("clearhead.model.attention.dot:Dot", "clearhead.model.attention.base:masked_softmax")
    references = ("Vaswani et al., 2017, arXiv:1706.03762, section 3.2.1 and footnote 4",)

    def cells(self, scale: Scale) -> Iterable[Cell]:
        widths = scale.pick(quick=(4, 64, 4096), full=(4, 16, 64, 256, 1024, 4096))
        for seed in scale.seeds(quick=1, full=3):
            for d_k in widths:
                yield {"part": "random", "d_k": d_k, "seed": seed}
        for seed in scale.seeds(quick=1, full=5):
            for scaled in (True, False):
                updates = scale.pick(quick=60, full=400)
                yield {"part": "training", "d_k": 1024, "scaled": scaled, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        if cell["part"] == "training":
            return [self._learning(int(cell["updates"] or 0), int(cell["seed"] or 0), scaled=bool(cell["scaled"]))]
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
                "score_mean": scores.mean(),
                "score_std": scores.std(),
                "scores": scores.numel(),
                "largest_weight": weights.detach().amax(dim=-1).mean(),
                "gradient_median": norms.median(),
                "gradient_largest": norms.max(),
                "share_change": _share_change(query[0, 0], key[0, 0], kernel.scale),
            }

    def _learning(self, updates: int, seed: int, *, scaled: bool) -> Row:
        """Updates until a one-head model of width 1024 answers a lookup, and what it can do at the end."""
        recall = task("recall", {"pairs": 4})
        attention = "dot" if scaled else {"kind": "dot", "scale": 1.0}
        model = build(decoder(recall.vocab, {"heads": 1, "d_head": 1024, "attention": attention}), seed)
        reached = None
        for step in train(model, recall, Plan(updates=updates), seed):
            if reached is None and step.number % 20 == 0 and score(model, recall, seed, 256).accuracy >= LEARNED:
                reached = step.number
        return {"reached": reached, "accuracy": score(model, recall, seed).accuracy}

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
                    zh=f"d_k = {wide} 时,不缩放的梯度中位数是缩放时的 {median:.2g} 倍。",
                ),
            ),
            "explosion": Judgement(
                explosion,
                Text(
                    en=f"At d_k = {wide} the largest gradient without the scale is {largest:.3g} times that with it.",
                    zh=f"d_k = {wide} 时,不缩放的最大梯度是缩放时的 {largest:.3g} 倍。",
                ),
            ),
            "balance": Judgement(
                Verdict.REFUTED if change <= SAME else Verdict.SUPPORTED,
                Text(
                    en=f"No dimension's share of a score changes by more than {change:.1g}.",
                    zh=f"各维度在打分中的占比,变化最大不超过 {change:.1g}。",
                ),
            ),
            "growth": Judgement(
                (Verdict.DEPENDS if growing else Verdict.REFUTED) if still else Verdict.INCONCLUSIVE,
                Text(
                    en=f"The mean score stays at 0; its standard deviation at d_k = {wide} is {_std(rows, wide):.3g}.",
                    zh=f"打分均值保持为 0;d_k = {wide} 时标准差为 {_std(rows, wide):.3g}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        wide = max(rows.where(part="random").distinct("d_k"))
        weight = rows.mean("largest_weight", d_k=wide, scaled=False, part="random")
        with_scale = rows.mean("accuracy", part="training", scaled=True)
        without = rows.mean("accuracy", part="training", scaled=False)
        runs = len(rows.where(part="training", scaled=True))
        return Answer(
            short=Text(
                en=f"A score of two random vectors has a standard deviation of sqrt(d_k). Without the scale and at d_k = {wide} one "
                f"key takes {weight:.0%} of the weight, so the typical gradient vanishes; the rare rows in which two keys tie "
                f"pass gradients that are far too large. Both happen at once. Trained on a lookup with heads of width 1024, the "
                f"model gets {with_scale:.0%} right with the scale and {without:.0%} without.",
                zh=f"两个随机向量的打分,其标准差为 √d_k。不缩放且 d_k = {wide} 时,一个键就占去 {weight:.0%} 的权重,因此典型的梯度会消失;"
                f"而两个键打分相近的少数行,梯度又过大。两种现象同时存在。在查表任务上用宽度 1024 的头训练,缩放时正确率 {with_scale:.0%},"
                f"不缩放时 {without:.0%}。",
            ),
            imprecise=Text(
                en="It is the width of a head that matters, not the length of the text. The mean of the scores does not grow, their "
                "spread does. A single factor is a temperature: it cannot balance dimensions.",
                zh="起作用的是每个头的宽度,而不是文本长度。增大的不是打分的均值,而是离散程度。单个系数相当于温度,无法平衡各维度。",
            ),
            limits=Text(
                en=f"Gaussian queries and keys, {KEYS} keys; training with {runs} seeds on one small task.",
                zh=f"查询与键取自高斯分布,{KEYS} 个键;训练部分为一个小任务、{runs} 个随机种子。",
            ),
            caption=Text(
                en="Left: the spread of scores. Right: gradients that reach a query; the median falls and the largest grows.",
                zh="左:打分的离散程度。右:到达查询的梯度,中位数下降而最大值上升。",
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


def _share_change(query: Tensor, key: Tensor, scale: float) -> float:
    """The most that a dimension's share of a score changes by scaling it, in float64."""
    products = query[:, None].double() * key[None].double()  # (queries, keys, d_k)
    scaled = scale * products
    before = products / products.abs().sum(dim=-1, keepdim=True)
    return float((before - scaled / scaled.abs().sum(dim=-1, keepdim=True)).abs().max())


def _ratio(rows: Rows, d_k: int, column: str) -> float:
    """Unscaled over scaled."""
    unscaled, scaled = (rows.mean(column, part="random", d_k=d_k, scaled=each) for each in (False, True))
    return unscaled / scaled


def _std(rows: Rows, d_k: int) -> float:
    return rows.mean("score_std", part="random", d_k=d_k, scaled=False)


def _growth(rows: Rows) -> tuple[bool, bool]:
    """Whether the mean of unscaled scores stays at 0, and whether their standard deviation grows with the width."""
    random = rows.where(part="random", scaled=False)
    queries = SETS * QUERIES  # scores of one query are correlated, so its count is what tells the error
    still = all(abs(float(r["score_mean"] or 0)) < 4 * float(r["score_std"] or 0) / queries**0.5 for r in random)
    spread = [_std(rows, each) for each in random.distinct("d_k")]
    return still, spread == sorted(spread)
