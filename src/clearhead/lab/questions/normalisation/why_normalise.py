"""What is normalisation for inside a deep network?"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.lab.parts.detached_norm import DetachedNorm
from clearhead.lab.parts.readout import readout
from clearhead.lab.parts.replacing import replace_parts
from clearhead.lab.pictures import label, line, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval
from clearhead.lab.training import Plan, build, decoder, examples, logits, task, train, trained
from clearhead.model.norm import NORMS, LayerNorm
from clearhead.model.recorder import EVERYTHING, recording

WIDTH, BATCH, DEEP = 64, 128, 30
GAINS = (0.5, 1.0, 1.5)
SHOWN = tuple(range(0, DEEP + 1, 5))  # layers
RATES = (1e-3, 4e-3, 1.6e-2, 6.4e-2, 0.256)
LEARNED = 0.6  # nats above the entropy rate, about half of what an untrained model has
EVEN, UNEVEN = 1.01, 2.0  # ratio of the largest to the smallest spread of a feature
TWICE = 3.0  # times: a larger stable rate by this much counts
SAME_MOMENTS, TOLD_APART = 1e-6, 0.05  # the second: accuracy above chance at telling layers apart
LAYERS = 4
KINDS = ("none", "layernorm", "rmsnorm", "detached")


@QUESTIONS.register("why-normalise")
class WhyNormalise(Question):
    """Growth through random layers, spreads of features, moments by layer, the largest learning rate that works."""

    topic = "norm-residual"
    title = Text(
        en="What is normalisation for: equal scales of features, bounded activations, or better optimisation?",
        zh="归一化究竟图什么：统一特征尺度、抑制激活增大，还是改善优化？",
    )
    sources = (Source("004", "3"), Source("000", "12"))
    claims = (
        Claim(
            "scales",
            Text(en="Normalisation brings different features to one scale.", zh="归一化把不同特征统一到同一尺度。"),
            Source("004", "3"),
            note=Text(
                en="That holds along the axis of a batch, not along the features of a token.",
                zh="沿批次方向统计时如此，沿单个词的特征统计时并非如此。",
            ),
        ),
        Claim(
            "growth",
            Text(
                en="Matrix products make the entries grow layer by layer, so norms are needed.",
                zh="矩阵连乘使数值逐层增大，因此需要归一化。",
            ),
            Source("004", "3"),
            note=Text(
                en="Whether they grow or shrink is decided by the size of the weights.",
                zh="增大还是缩小，取决于权重的大小。",
            ),
        ),
        Claim(
            "consistent",
            Text(
                en="LayerNorm keeps the distribution of all layers' inputs the same, which helps stability and speed.",
                zh="层归一化使各层输入分布一致，有助于稳定和加速训练。",
            ),
            Source("000", "12"),
            note=Text(
                en="It fixes two moments of each token, not a distribution.",
                zh="它固定的是每个词的两个矩，而不是分布。",
            ),
        ),
    )
    prediction = Text(
        en="Without norm the size changes by log(gain) a layer, up or down. LayerNorm leaves unequal features "
        "unequal. Means and variances of tokens agree in all layers while the kurtosis differs by more than 20 %. "
        "LayerNorm allows a learning rate at least 3 times as large; without gradients through its statistics much "
        "of that is lost.",
        zh="无归一化时，数值大小每层变化 log（增益），可增可减。层归一化不会拉平各特征。各层中词的均值与方差一致，但峰"
        "度相差超过 20%。层归一化允许的学习率至少大 3 倍；若梯度不经过统计量，这一好处会大部分丧失。",
    )
    criterion = Text(
        en="scales: depends if spreads of features that differ 100-fold become equal within 1 % under BatchNorm and "
        "stay more than 2-fold apart under LayerNorm; supported if both equalise; refuted if neither. growth: "
        "depends if without norm and shortcut the slope of log size per layer is within 0.05 of log(gain) for gains "
        "0.5, 1 and 1.5; supported if it is above 0.05 for all; else refuted. consistent: of two halves, (a) "
        "stability: the largest rate that learns (4-fold grid) is at least 3 times that without norm for every seed; "
        "(b) same distribution: moments agree within 1e-6 and a classifier tells the layers of vectors apart by at "
        "most 5 points above chance. Both: supported; one: depends; none: refuted.",
        zh="尺度：原本相差 100 倍的特征散布，经批归一化后在 1% 内相等、经层归一化后仍相差 2 倍以上，则视情况而定；两者"
        "都拉平则成立；都不拉平则不成立。增大：无归一化、无捷径时，增益为 0.5、1、1.5 的每层斜率都与 log（增益）相差"
        "不超过 0.05，则视情况而定；都高于 0.05 则成立；否则不成立。一致：分两半，（甲）稳定：每个种子能学会的最大学"
        "习率（4 倍一格）至少是无归一化的 3 倍；（乙）分布相同：矩相差不超过 1e-6，且分类器辨认向量所属层的正确率最多"
        "比随机高 5 个百分点。两半都满足则成立，满足一半则视情况而定，都不满足则不成立。",
    )
    parts = (
        "clearhead.model.norm.layernorm:LayerNorm",
        "clearhead.model.norm.rmsnorm:RMSNorm",
        "clearhead.model.norm.batchnorm:BatchNorm",
    )
    references = (
        "Ba, Kiros and Hinton, 2016, arXiv:1607.06450",
        "Xu et al., 2019, arXiv:1911.07013, section 3 (statistics without gradients)",
        "Zhang and Sennrich, 2019, arXiv:1910.07467",
        "Santurkar et al., 2018, arXiv:1805.11604",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=2, full=10):
            yield {"part": "layers", "seed": seed}
        for seed in scale.seeds(quick=1, full=3):
            yield {"part": "moments", "updates": scale.pick(quick=5, full=200), "seed": seed}
            for norm in KINDS:
                for rate in scale.pick(quick=RATES[2:3], full=RATES):
                    yield {
                        "part": "rates",
                        "norm": norm,
                        "rate": rate,
                        "updates": scale.pick(quick=5, full=100),
                        "seed": seed,
                    }

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed, updates = int(cell["seed"] or 0), int(cell.get("updates") or 0)
        if cell["part"] == "layers":
            return [
                *_sizes(seed),
                *({"norm": each, "spread": _spread(each, seed)} for each in ("none", "layernorm", "batchnorm")),
            ]
        if cell["part"] == "moments":
            return _moments(updates, seed)
        return [{"excess": _learned(str(cell["norm"]), float(cell["rate"] or 0), updates, seed)}]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        spread = {each: rows.mean("spread", norm=each) for each in ("none", "layernorm", "batchnorm")}
        slopes = {gain: _slope(rows, gain) for gain in GAINS}
        follows = all(
            abs(slopes[gain].low - np.log(gain)) < 0.05 and abs(slopes[gain].high - np.log(gain)) < 0.05
            for gain in GAINS
        )
        moments, told = max(rows.column("moments")), rows.mean("told_apart")
        rates = _largest(rows)
        stable = all(with_ >= TWICE * without for with_, without in zip(rates["layernorm"], rates["none"], strict=True))
        halves = stable + (moments <= SAME_MOMENTS and told <= TOLD_APART)
        levelled = [spread["batchnorm"] <= EVEN, spread["layernorm"] <= UNEVEN]
        grows = all(each.low > 0.05 for each in slopes.values())
        growth = Verdict.DEPENDS if follows else Verdict.SUPPORTED if grows else Verdict.REFUTED
        consistent = (Verdict.REFUTED, Verdict.DEPENDS, Verdict.SUPPORTED)[halves]
        listed = ", ".join(f"{gain}: {round(slopes[gain].mean, 2) + 0.0:+.2f}" for gain in GAINS)
        return {
            "scales": Judgement(
                (Verdict.REFUTED, Verdict.DEPENDS, Verdict.SUPPORTED)[sum(levelled)],
                Text(
                    en=f"Spreads of features differ {spread['none']:.0f}-fold before, {spread['layernorm']:.0f}-fold "
                    f"after LayerNorm, {spread['batchnorm']:.3f}-fold after BatchNorm.",
                    zh=f"各特征的散布，归一化前最多相差 {spread['none']:.0f} 倍，层归一化后 {spread['layernorm']:.0f} "
                    f"倍，批归一化后 {spread['batchnorm']:.3f} 倍。",
                ),
            ),
            "growth": Judgement(
                growth,
                Text(
                    en=f"Slope of log size per layer by gain: {listed}.",
                    zh=f"不同增益下 log（大小）的每层斜率为 {listed.replace(', ', '，').replace(': ', '：')}。",
                ),
            ),
            "consistent": Judgement(
                consistent,
                Text(
                    en=f"Largest rate that learns: {_named(rates['layernorm'])} with LayerNorm, "
                    f"{_named(rates['none'])} without. Moments of tokens agree within {moments:.1g}, yet a "
                    f"classifier names the layer of a vector {100 * told:.0f} points above chance.",
                    zh=f"能学会的最大学习率：有层归一化 {_named(rates['layernorm'])}，无 {_named(rates['none'])}。词的"
                    f"矩相差不超过 {moments:.1g}，但分类器判断向量来自哪一层时，正确率比随机高 {100 * told:.0f} 个百分点。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        rates, slopes = _largest(rows), {gain: _slope(rows, gain).mean for gain in GAINS}
        stream = _slope(rows, 1.0, shortcut=True).mean
        seeds = len(rows.where(part="rates").distinct("seed"))
        stable = min(rates["layernorm"]) >= TWICE * max(rates["none"])
        return Answer(
            short=Text(
                en=f"{'Mostly for optimisation.' if stable else 'No one purpose stands out here.'} Sizes grow or shrink with the weights (their logarithm by {slopes[0.5]:+.2f} a layer at "
                f"gain 0.5, {slopes[1.5]:+.2f} at 1.5), and with shortcuts they change even at gain 1 ({stream:+.2f} a "
                f"layer); a norm ends both. LayerNorm does not bring features to one scale. The largest learning "
                f"rate that learns is {_named(rates['layernorm'])} with LayerNorm, {_named(rates['rmsnorm'])} with "
                f"RMSNorm, {_named(rates['none'])} without, and {_named(rates['detached'])} if no gradient passes "
                f"through the statistics.",
                zh=f"{'主要是为了优化。' if stable else '这里看不出哪一个目的最突出。'}数值随权重大小增或减（增益 0.5 时其对数每层变化 {slopes[0.5]:+.2f}，1.5 时 "
                f"{slopes[1.5]:+.2f}）；有捷径时增益为 1 也会变化（每层 {stream:+.2f}）；归一化能消除这两种现象。层归一"
                f"化并不统一各特征的尺度。能学会的最大学习率：层归一化 {_named(rates['layernorm'])}，RMSNorm "
                f"{_named(rates['rmsnorm'])}，无归一化 {_named(rates['none'])}，梯度不经过统计量时 "
                f"{_named(rates['detached'])}。",
            ),
            imprecise=Text(
                en=f"Two moments of a token are not a distribution: a classifier names the layer that a normalised "
                f"vector comes from {100 * rows.mean('told_apart'):.0f} points above chance, while the pooled kurtosis differs by "
                f"{_shapes(rows):.0%}. Growth is a matter of initial weights and shortcuts, not of matrix products "
                f"as such.",
                zh=f"一个词的两个矩并不等于分布：合并计算的峰度相差 {_shapes(rows):.0%}，分类器辨认归一化后的向量来自"
                f"哪一层，正确率比随机高 {100 * rows.mean('told_apart'):.0f} 个百分点。是否增大取决于初始权重和捷径，而不是矩阵乘法"
                f"本身。",
            ),
            limits=Text(
                en=f"Random linear layers of width {WIDTH}; rates on a 4-fold grid with Adam and no warm-up, 2 layers "
                f"of width 32 on a Markov chain, {seeds} seed(s).",
                zh=f"宽 {WIDTH} 的随机线性层；学习率按 4 倍一格，Adam、无预热，2 层、宽 32 的模型学马尔可夫链，"
                f"{seeds} 个种子。",
            ),
            caption=Text(
                en="Left: size of the activations by layer. Right: loss after training by learning rate; a curve that "
                "stays low longer allows larger rates.",
                zh="左：激活大小随层数的变化。右：训练后损失随学习率的变化；曲线保持低位越久，可用的学习率越大。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (size, learned) = panels(2, height=3.8)
        for place, gain in enumerate(GAINS):
            line(
                size,
                SHOWN,
                [rows.mean("log_size", gain=gain, norm="none", shortcut=False, layer=each) for each in SHOWN],
                f"no norm, gain {gain}",
                place,
            )
        line(
            size,
            SHOWN,
            [rows.mean("log_size", gain=1.0, norm="none", shortcut=True, layer=each) for each in SHOWN],
            "no norm, shortcuts, gain 1",
            3,
        )
        line(
            size,
            SHOWN,
            [rows.mean("log_size", gain=1.5, norm="layernorm", shortcut=False, layer=each) for each in SHOWN],
            "LayerNorm, gain 1.5",
            4,
        )
        rates = rows.where(part="rates").distinct("rate")
        for place, norm in enumerate(KINDS):
            line(
                learned,
                rates,
                [rows.mean("excess", part="rates", norm=norm, rate=each) for each in rates],
                norm,
                place,
            )
        learned.axhline(LEARNED, color="#555555", linestyle="--", linewidth=1.2, label="counts as learned")
        learned.set(xscale="log", yscale="log")
        label(size, x="layer", y="log of the root mean square", title="random layers")
        label(learned, x="learning rate (Adam)", y="loss above entropy rate (nats per token)", title="after training")
        for axes in (size, learned):
            axes.legend(fontsize=7)
        return figure


def _sizes(seed: int) -> list[Row]:
    """How large activations are on their way through random linear layers."""
    rows: list[Row] = []
    for gain in GAINS:
        for norm in ("none", "layernorm", "rmsnorm", "batchnorm"):
            for shortcut in (False, True):
                for layer, hidden in enumerate(_pass(gain, norm, seed, shortcut=shortcut)):
                    if layer in SHOWN:
                        size = float(hidden.square().mean().sqrt().log())
                        rows.append(
                            {"gain": gain, "norm": norm, "shortcut": shortcut, "layer": layer, "log_size": size}
                        )
    return rows


def _pass(gain: float, norm: str, seed: int, *, shortcut: bool) -> Iterable[Tensor]:
    """The stream after each layer: norm(W x), or x + W norm(x) with shortcuts."""
    generator, part = torch.Generator().manual_seed(seed), NORMS.get(norm)(WIDTH).double()
    hidden = torch.randn(BATCH, WIDTH, generator=generator, dtype=torch.float64)
    yield hidden
    for _ in range(DEEP):
        matrix = torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64) * gain / WIDTH**0.5
        hidden = (hidden + part(hidden) @ matrix if shortcut else part(hidden @ matrix)).detach()
        yield hidden


def _spread(norm: str, seed: int) -> float:
    """The largest over the smallest standard deviation of a feature across tokens; about 100 before the norm."""
    scales = torch.logspace(-1, 1, WIDTH, dtype=torch.float64)
    hidden = scales * torch.randn(50 * BATCH, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    spread = NORMS.get(norm)(WIDTH).double()(hidden).detach().std(dim=0)
    return float(spread.max() / spread.min())


def _moments(updates: int, seed: int) -> list[Row]:
    """What a norm makes of the stream in each layer of a trained model: two moments, the kurtosis, and a classifier.

    Distributions are equal if no classifier tells their samples apart (Lopez-Paz and Oquab, 2017, arXiv:1610.06545).
    """
    text = task("markov", {"length": 16})
    model = trained(decoder(text.vocab, {"decoder_layers": LAYERS}), text, Plan(updates=updates, batch=16), seed)
    with recording(model, EVERYTHING) as record, torch.no_grad():
        logits(model, examples(text, 64, seed, "moments"))
    norm = LayerNorm(32, epsilon=1e-14).double()
    rows: list[Row] = []
    inputs: list[Tensor] = []
    for layer, name in enumerate(["decoder.embedding", *(f"decoder.blocks.{each}" for each in range(LAYERS))]):
        standard = norm(record[name].double()).detach()  # (batch, length, d_model)
        errors = standard.mean(dim=-1).abs().max(), (standard.square().mean(dim=-1) - 1).abs().max()
        rows.append({"layer": layer, "moments": max(map(float, errors)), "kurtosis": standard.pow(4).mean()})
        inputs.append(standard.float().flatten(0, 1))  # (tokens, d_model)
    order = torch.randperm(len(inputs) * len(inputs[0]), generator=torch.Generator().manual_seed(seed))
    layers = torch.arange(len(inputs)).repeat_interleave(len(inputs[0]))
    told = readout(torch.cat(inputs)[order], layers[order], seed, inner=32, updates=150)
    return [*rows, {"told_apart": told - 1 / len(inputs)}]


def _learned(norm: str, rate: float, updates: int, seed: int) -> float:
    """Loss above the entropy rate after training, at most 10 nats."""
    text = task("markov", {"length": 16})
    model = build(decoder(text.vocab, {"norm": "layernorm" if norm == "detached" else norm}), seed)
    if norm == "detached":
        replace_parts(model, LayerNorm, lambda part: DetachedNorm(len(part.weight)))
    plan = Plan(updates=updates, batch=16, rate=rate, warmup=0, schedule="constant", clip=1e9)
    losses = [step.loss for step in train(model, text, plan, seed)]
    last = float(np.mean(losses[-10:])) - (text.best or 0.0)
    return min(last, 10.0) if np.isfinite(last) else 10.0


def _slope(rows: Rows, gain: float, *, shortcut: bool = False) -> Interval:
    """Of the log size per layer without norm, by seed."""
    own = rows.where(gain=gain, norm="none", shortcut=shortcut)
    return interval(
        [
            own.one("log_size", seed=each, layer=DEEP) / DEEP - own.one("log_size", seed=each, layer=0) / DEEP
            for each in own.distinct("seed")
        ]
    )


def _shapes(rows: Rows) -> float:
    """By how much the kurtosis of one layer exceeds that of another at most."""
    own = rows.where(part="moments")
    means = [own.mean("kurtosis", layer=each) for each in own.distinct("layer")]
    return max(means) / min(means) - 1


def _largest(rows: Rows) -> dict[str, list[float]]:
    """For each norm and seed the largest rate that learns; a quarter of the smallest one where none does."""
    own = rows.where(part="rates")
    return {
        norm: [
            max(
                [
                    float(row["rate"] or 0)
                    for row in own.where(norm=norm, seed=seed)
                    if float(row["excess"] or 0) < LEARNED
                ],
                default=RATES[0] / 4,
            )
            for seed in own.distinct("seed")
        ]
        for norm in KINDS
    }


def _named(rates: list[float]) -> str:
    """One rate, or the smallest and the largest of the seeds."""
    low, high = min(rates), max(rates)
    shown = [f"< {RATES[0]:g}" if each < RATES[0] else f"{each:g}" for each in dict.fromkeys((low, high))]
    return shown[0] if len(shown) == 1 else f"[{shown[0]}, {shown[1]}]"
