"""Which scores are better, dot products or additive ones, and what has the width to do with it?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clearhead.core.registry import Choice
from clearhead.core.seeds import derive
from clearhead.lab.pictures import label, line, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, equivalent, interval
from clearhead.lab.training import Plan, fit
from clearhead.model.attention import ATTENTIONS
from clearhead.model.mask import OPEN
from clearhead.model.position.base import UNRELATED

KEYS, CODES, FEATURES, NOISE = 32, 64, 16, 0.5  # keys of an example are drawn from a fixed set of codes
SCORERS: Mapping[str, Choice] = {
    "dot": Choice(kind="dot", options={"scale": 1.0}),
    "scaled dot": Choice(kind="dot"),
    "additive": Choice(kind="additive"),
    "cosine": Choice(kind="cosine"),
}
RATES = (3e-3, 1e-2, 3e-2)
CLOSE = 0.02  # accuracies within two points count as equal
EVEN = 0.10  # entropies within this share count as equal


@QUESTIONS.register("dot-vs-additive-quality")
class DotVsAdditiveQuality(Question):
    """One head finds the key that a noisy query was made from; the rate is chosen on the first seed.

    Keys come from a fixed set of codes, as words do. With fresh random keys in every example an additive scorer would have to
    learn the inner product itself, and two hundred updates are too few for that: a confound, not an answer.
    """

    topic = "attention"
    title = Text(
        en="Which scores work better, dot products or additive ones, and how does the width change the answer?",
        zh="点积打分与加性打分哪个效果好？维度与缩放怎样改变结论？",
    )
    sources = (Source("000", "3"), Source("001", "Q3"), Source("001", "R2"), Source("003", "I.3"))
    claims = (
        Claim(
            "wide",
            Text(en="The larger d_k, the more additive scores stand out.", zh="d_k 越大，加性打分的优势越明显。"),
            Source("001", "Q3"),
            note=Text(en="The source of it speaks of dot products without a scale.", zh="其出处说的是不缩放的点积。"),
        ),
        Claim(
            "even",
            Text(
                en="Dot products usually work better, as additive scores spread the weights too evenly.",
                zh="点积通常效果更好，因为加性打分使权重过于平均。",
            ),
            Source("001", "R2"),
        ),
        Claim(
            "agreement",
            Text(
                en="Addition shows the magnitude of two vectors, the dot product their agreement, so it suits attention better.",
                zh="相加反映两个向量的总量，点积反映一致程度，所以点积更适合注意力。",
            ),
            Source("000", "3"),
            note=Text(
                en="An additive score is a small network, not a sum.", zh="加性打分是一个小网络，并不是简单相加。"
            ),
        ),
    )
    prediction = Text(
        en="Unscaled dot products suffer at large d_k, scaled ones do not, and additive scores do about as well as scaled ones at any width.",
        zh="不缩放的点积在 d_k 大时受损，缩放的不会；加性打分在任何宽度上都与缩放点积相近。",
    )
    criterion = Text(
        en="At the largest width, accuracies paired by seed. wide: depends if additive beats the unscaled dot product (95 % interval above 0) and "
        "is within 2 points of the scaled one (equivalence test); supported if it beats both; refuted if it does not beat the unscaled one and "
        "the interval is narrower than 4 points; else inconclusive. even: supported if additive's trained weights "
        "have a higher entropy than the scaled dot product's (interval) and its accuracy is lower (interval); refuted if the entropies differ "
        "by less than 10 % or the accuracy is within 2 points or above; else inconclusive. agreement: refuted if additive is within 2 points of the scaled dot product or above it; supported if below by more (interval); else "
        "inconclusive.",
        zh="在最大宽度上按种子配对比较正确率。宽度：若加性优于不缩放点积（95% 区间在 0 以上）且与缩放点积相差不超过 2 个百分点（等价检验），则视情况而定；"
        "优于两者则成立；不优于不缩放点积且区间窄于 4 个百分点则不成立；否则尚无定论。平均：若训练后加性的权重熵高于缩放点积（区间）"
        "且正确率更低（区间），则成立；若两者的熵相差不到 10%，或加性的正确率相差不超过 2 个百分点或更高，则不成立；否则尚无定论。一致：若加性与缩放点积相差不超过 2 个百分点或更高，则不成立；"
        "低得更多（区间）则成立；否则尚无定论。",
    )
    parts = (
        "clearhead.model.attention.dot:Dot",
        "clearhead.model.attention.additive:Additive",
        "clearhead.model.attention.cosine:Cosine",
    )
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2.1",
        "Britz et al., 2017, arXiv:1703.03906, section 4.5",
        "Luong, Pham and Manning, 2015, arXiv:1508.04025",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        widths = scale.pick(quick=(4, 64), full=(4, 32, 256))
        rates = scale.pick(quick=RATES[1:2], full=RATES)
        updates = scale.pick(quick=40, full=200)
        for seed in scale.seeds(quick=1, full=8):
            for scorer in SCORERS:
                for d_k in widths:
                    yield {"scorer": scorer, "d_k": d_k, "seed": seed, "updates": updates, "rates": len(rates)}

    def measure(self, cell: Cell) -> Iterable[Row]:
        rates = RATES if cell["rates"] == len(RATES) else RATES[1:2]
        for rate in rates:
            finder = Finder(str(cell["scorer"]), int(cell["d_k"] or 0), int(cell["seed"] or 0))
            plan = Plan(updates=int(cell["updates"] or 0), batch=32, rate=rate, warmup=20)
            for _ in fit(finder, finder.loss, plan, int(cell["seed"] or 0)):
                pass
            yield {"rate": rate, **finder.probed(int(cell["seed"] or 0))}

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        tuned, wide = _tuned(rows), max(rows.distinct("d_k"))
        unscaled = _difference(tuned, "accuracy", "dot", wide)
        scaled, entropy = (_difference(tuned, each, "scaled dot", wide) for each in ("accuracy", "entropy"))
        near = equivalent(_differences(tuned, "accuracy", "scaled dot", wide), CLOSE)
        base = tuned.mean("entropy", scorer="scaled dot", d_k=wide)
        even = equivalent(_differences(tuned, "entropy", "scaled dot", wide), EVEN * base)
        return {
            "wide": Judgement(
                _wide(unscaled, scaled, near=near),
                Text(
                    en=f"At d_k = {wide} additive minus unscaled dot: {unscaled}; minus scaled dot: {scaled} (accuracy).",
                    zh=f"d_k = {wide} 时，加性减不缩放点积 {unscaled}；减缩放点积 {scaled}（正确率）。",
                ),
            ),
            "even": Judgement(
                _even(entropy, scaled, same=even or near),
                Text(
                    en=f"Entropy of trained weights, additive minus scaled dot: {entropy} nats (scaled dot {base:.2f}); accuracy, additive minus "
                    f"scaled dot: {scaled}.",
                    zh=f"训练后权重的熵，加性减缩放点积：{entropy} 奈特（缩放点积为 {base:.2f}）；正确率，加性减缩放点积：{scaled}。",
                ),
            ),
            "agreement": Judgement(
                Verdict.REFUTED
                if near or scaled.above
                else Verdict.SUPPORTED
                if scaled.high < -CLOSE
                else Verdict.INCONCLUSIVE,
                Text(
                    en=f"Finding the key that agrees with the query: additive minus scaled dot {scaled} (accuracy).",
                    zh=f"寻找与查询一致的键：加性减缩放点积 {scaled}（正确率）。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        tuned, wide = _tuned(rows), max(rows.distinct("d_k"))
        found = {scorer: tuned.mean("accuracy", scorer=scorer, d_k=wide) for scorer in SCORERS}
        small = {scorer: tuned.mean("accuracy", scorer=scorer, d_k=min(rows.distinct("d_k"))) for scorer in SCORERS}
        entropy = {scorer: tuned.mean("entropy", scorer=scorer, d_k=wide) for scorer in ("additive", "scaled dot")}
        seeds = len(tuned.distinct("seed"))
        ahead = {
            d_k: 100
            * (
                tuned.mean("accuracy", scorer="additive", d_k=d_k)
                - tuned.mean("accuracy", scorer="scaled dot", d_k=d_k)
            )
            for d_k in tuned.distinct("d_k")
        }
        names = {"dot": "不缩放点积", "scaled dot": "缩放点积", "additive": "加性", "cosine": "余弦"}
        return Answer(
            short=Text(
                en=f"At d_k = {wide}, each with its best rate: "
                + ", ".join(f"{k} {v:.1%}" for k, v in found.items())
                + f". At d_k = {min(rows.distinct('d_k'))} additive scores reach {small['additive']:.1%}, scaled dot products "
                f"{small['scaled dot']:.1%}. The verdicts are those of the largest width; additive minus scaled dot products in points of accuracy: "
                + ", ".join(f"{points:+.1f} at {d_k}" for d_k, points in ahead.items())
                + ". What is said of additive scores at large widths was measured against dot products without a scale.",
                zh=f"d_k = {wide} 时（各取最佳学习率）："
                + "，".join(f"{names[k]} {v:.1%}" for k, v in found.items())
                + f"。d_k = {min(rows.distinct('d_k'))} 时，加性为 {small['additive']:.1%}，缩放点积为 {small['scaled dot']:.1%}。"
                + "结论只针对最大的宽度；加性减缩放点积的正确率（百分点）："
                + "，".join(f"d_k = {d_k} 时 {points:+.1f}" for d_k, points in ahead.items())
                + "。"
                "关于加性打分在大宽度上更好的说法，出自与不缩放点积的比较。",
            ),
            imprecise=Text(
                en="An additive score is v . tanh(W q + U k), a network with one hidden layer: it can learn agreement. How even its weights are is "
                f"learned too, with the length of v: after training their entropy is {entropy['additive']:.2f} nats here, that of scaled dot "
                f"products {entropy['scaled dot']:.2f}.",
                zh="加性打分是 v·tanh(Wq + Uk)，即含一个隐藏层的网络，能够学到“一致”。权重有多平均也是学出来的，由 v 的长度控制：这里训练后权重的熵为 "
                f"{entropy['additive']:.2f} 奈特，缩放点积为 {entropy['scaled dot']:.2f}。",
            ),
            limits=Text(
                en=f"One head, {KEYS} keys out of {CODES} fixed codes, noisy queries, {seeds} seed(s) besides the one that chose "
                "the rates, few updates; no language.",
                zh=f"一个头，从 {CODES} 个固定编码中取 {KEYS} 个键，带噪声的查询，{seeds} 个随机种子（另有一个用来选学习率），"
                "更新次数较少；不涉及语言。",
            ),
            caption=Text(
                en="Accuracy and entropy of the weights after training, with 95 % intervals. Evenly spread weights have the highest entropy.",
                zh="训练后的正确率与权重的熵，带 95% 区间。权重越平均，熵越高。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        tuned, widths = _tuned(rows), rows.distinct("d_k")
        figure, axes = panels(2)
        for panel, column, what in zip(
            axes, ("accuracy", "entropy"), ("accuracy", "entropy of weights (nats)"), strict=True
        ):
            for place, scorer in enumerate(SCORERS):
                line(
                    panel, widths, [interval(tuned.column(column, scorer=scorer, d_k=d)) for d in widths], scorer, place
                )
            panel.set_xscale("log", base=2)
            label(panel, x="width d_k", y=what)
        axes[0].legend(fontsize=8)
        return figure


class Finder(nn.Module):
    """One head over a set of keys: two linear maps and a kernel of the package; queries and keys begin with variance 1."""

    def __init__(self, scorer: str, d_k: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "finder"))
            self.query, self.key = (nn.Linear(FEATURES, d_k, bias=False) for _ in range(2))
            for each in (self.query, self.key):
                nn.init.normal_(each.weight, std=FEATURES**-0.5)
            self.codes = nn.Parameter(torch.randn(CODES, FEATURES), requires_grad=False)
            self.kernel = ATTENTIONS.build(SCORERS[scorer], 1, d_k, 0.0)

    def loss(self, generator: torch.Generator, batch: int = 32) -> Tensor:
        """Nats of the right key's weight."""
        weights, right = self.weights(generator, batch)
        return -weights.gather(1, right[:, None]).clamp(min=1e-30).log().mean()

    def weights(self, generator: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
        """(batch, keys) weights, and (batch,) the place of the key that the query was made from."""
        shown = torch.rand(batch, CODES, generator=generator).argsort(dim=1)[:, :KEYS]
        keys = self.codes[shown]  # (batch, keys, features)
        right = torch.randint(KEYS, (batch,), generator=generator)
        query = keys[torch.arange(batch), right] + NOISE * torch.randn(batch, FEATURES, generator=generator)
        asking, offered = self.query(query)[:, None, None], self.key(keys)[:, None]
        return self.kernel.weights(asking, offered, OPEN, UNRELATED)[:, 0, 0], right

    @torch.no_grad()
    def probed(self, seed: int) -> Row:
        """Accuracy and entropy on fresh sets."""
        weights, right = self.weights(torch.Generator().manual_seed(derive(seed, "probe")), 2048)
        entropy = -(weights * weights.clamp(min=1e-30).log()).sum(dim=1).mean()
        return {"accuracy": float((weights.argmax(dim=1) == right).float().mean()), "entropy": float(entropy)}


def _tuned(rows: Rows) -> Rows:
    """The rows at the rate that is best on the first seed, for each scorer and width, without that seed where there are more."""
    first, kept = rows[0]["seed"], []
    for scorer in rows.distinct("scorer"):
        for d_k in rows.distinct("d_k"):
            of = rows.where(scorer=scorer, d_k=d_k)
            best = max(of.where(seed=first), key=lambda row: float(row["accuracy"] or 0))["rate"]
            kept += [row for row in of.where(rate=best) if row["seed"] != first or len(rows.distinct("seed")) == 1]
    return Rows(kept)


def _differences(rows: Rows, column: str, other: str, width: int) -> list[float]:
    return rows.paired(column, {"scorer": "additive", "d_k": width}, {"scorer": other, "d_k": width})


def _difference(rows: Rows, column: str, other: str, width: int) -> Interval:
    return interval(_differences(rows, column, other, width))


def _even(entropy: Interval, accuracy: Interval, *, same: bool) -> Verdict:
    if same or accuracy.above:
        return Verdict.REFUTED
    return Verdict.SUPPORTED if entropy.above and accuracy.below else Verdict.INCONCLUSIVE


def _wide(unscaled: Interval, scaled: Interval, *, near: bool) -> Verdict:
    if unscaled.above:
        return Verdict.DEPENDS if near else Verdict.SUPPORTED if scaled.above else Verdict.INCONCLUSIVE
    return Verdict.REFUTED if unscaled.high - unscaled.low < 2 * CLOSE else Verdict.INCONCLUSIVE
