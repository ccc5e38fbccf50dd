"""Which order relations survive each kind of normalisation?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.core.registry import Choice
from clearhead.lab.parts.readout import readout
from clearhead.lab.pictures import grouped, label, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import interval, kendall
from clearhead.model.norm import NORMS, LayerNorm

SAMPLES, FEATURES = 32, 16
NAMES = {"layernorm": "LayerNorm", "batchnorm": "BatchNorm"}
KEPT = {"layernorm": "of_features", "batchnorm": "of_samples"}  # the axis along which each is one increasing map
LOST = {"layernorm": "of_samples", "batchnorm": "of_features"}
GAINS = ("one", "positive", "signed")
SOLVED, CHANCE = 0.95, 0.55
SAME_NORM = 1e-5  # relative


@QUESTIONS.register("norm-what-is-preserved")
class NormWhatIsPreserved(Question):
    """Kendall's tau along both axes, and what a linear classifier can still read."""

    topic = "norm-residual"
    title = Text(
        en="Which order survives a norm: between the features of one sample, or between samples for one feature?",
        zh="批归一化与层归一化各自保留、抹掉哪种大小关系：同一样本的特征之间，还是不同样本之间？",
    )
    sources = (Source("004", "3"),)
    claims = (
        Claim(
            "orders",
            Text(
                en="BatchNorm wipes out relations between features and keeps those between samples; LayerNorm the "
                "other way round.",
                zh="批归一化抹掉特征之间的大小关系、保留样本之间的；层归一化正好相反。",
            ),
            Source("004", "3"),
            note=Text(
                en="Changed is not the same as lost, and gains change orders too.",
                zh="改变不等于丢失；增益参数也会改变顺序。",
            ),
        ),
        Claim(
            "time",
            Text(
                en="A sample's features are its changes over time, which must be kept, hence LayerNorm for text.",
                zh="样本的不同特征是其随时间的变化，不能抹掉，所以文本用层归一化。",
            ),
            Source("004", "3"),
            note=Text(
                en="It takes features for time steps; LayerNorm works inside one step.",
                zh="这里混淆了特征与时间步；层归一化作用于单个时间步之内。",
            ),
        ),
    )
    prediction = Text(
        en="With gain 1 each norm keeps its own order exactly (tau 1). A linear read-out after LayerNorm tells which "
        "of two features is larger but not how large the sample is; after BatchNorm it tells both, because BatchNorm "
        "with fixed statistics can be undone. All tokens get the same norm.",
        zh="增益为 1 时，两者都精确保持各自的顺序（tau 为 1）。层归一化之后，线性读出能判断哪个特征更大，却判断不了样"
        "本的大小；批归一化之后两者都能读出，因为固定统计量的批归一化可以还原。所有词的范数变得相同。",
    )
    criterion = Text(
        en="orders: kept means tau is exactly 1 along the own axis for every vector (gain 1) and below 1 along the "
        "other. If not, refuted. If kept: supported if LayerNorm solves 'which feature' (above 95 %) and is at "
        "chance on 'how large' (below 55 %), and BatchNorm the other way round; depends if only LayerNorm's half is "
        "so; else refuted. time: refuted if the norms of tokens, which differ before, agree within 1e-5 after "
        "LayerNorm; else supported.",
        zh="顺序：“保留”指增益为 1 时每个向量沿自身的轴 tau 恰为 1、沿另一轴小于 1；否则不成立。若保留：层归一化能解"
        "“哪个特征更大”（高于 95%）而在“有多大”上处于随机水平（低于 55%），批归一化正好相反，则成立；只有层归一化这一"
        "半满足则视情况而定；其余不成立。时间：各词原本不同的范数在层归一化后相差不超过 1e-5，则不成立；否则成立。",
    )
    parts = ("clearhead.model.norm.layernorm:LayerNorm", "clearhead.model.norm.batchnorm:BatchNorm")
    references = (
        "Ioffe and Szegedy, 2015, arXiv:1502.03167, section 3",
        "Ba, Kiros and Hinton, 2016, arXiv:1607.06450, section 5.1",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=10):
            yield {"part": "orders", "seed": seed}
            yield {"part": "reading", "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        if cell["part"] == "orders":
            return [*(_orders(norm, gain, seed) for norm in NAMES for gain in GAINS), _norms(seed)]
        return [row for norm in ("none", *NAMES) for row in _reading(norm, seed)]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        kept = {norm: min(rows.column(KEPT[norm], norm=norm, gain="one")) for norm in NAMES}
        lost = {norm: max(rows.column(LOST[norm], norm=norm, gain="one")) for norm in NAMES}
        exact = min(kept.values()) == 1.0 and max(lost.values()) < 1.0
        which, large = (
            {norm: rows.mean("accuracy", task=task, norm=norm) for norm in NAMES} for task in ("which", "large")
        )
        layer = which["layernorm"] > SOLVED and large["layernorm"] < CHANCE
        batch = large["batchnorm"] > SOLVED and which["batchnorm"] < CHANCE
        halves = Verdict.SUPPORTED if layer and batch else Verdict.DEPENDS if layer else Verdict.REFUTED
        spread = max(rows.column("norms_after"))
        return {
            "orders": Judgement(
                halves if exact else Verdict.REFUTED,
                Text(
                    en=f"Smallest tau on the own axis: LayerNorm {kept['layernorm']:.3f}, BatchNorm "
                    f"{kept['batchnorm']:.3f}. Read-out of 'which feature is larger' and 'how large': "
                    f"{which['layernorm']:.0%} and {large['layernorm']:.0%} after LayerNorm, "
                    f"{which['batchnorm']:.0%} and {large['batchnorm']:.0%} after BatchNorm.",
                    zh=f"沿自身轴的最小 tau：层归一化 {kept['layernorm']:.3f}，批归一化 {kept['batchnorm']:.3f}。读出"
                    f"“哪个特征更大”与“有多大”的正确率：层归一化后 {which['layernorm']:.0%} 与 "
                    f"{large['layernorm']:.0%}，批归一化后 {which['batchnorm']:.0%} 与 {large['batchnorm']:.0%}。",
                ),
            ),
            "time": Judgement(
                Verdict.REFUTED if spread <= SAME_NORM else Verdict.SUPPORTED,
                Text(
                    en=f"Norms of tokens differ up to {max(rows.column('norms_before')):.0f}-fold before LayerNorm "
                    f"and by at most a share of {spread:.1g} after.",
                    zh=f"各词的范数在层归一化前最多相差 {max(rows.column('norms_before')):.0f} 倍，之后相对差不超过 "
                    f"{spread:.1g}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        tau = {(norm, gain): rows.mean(KEPT[norm], norm=norm, gain=gain) for norm in NAMES for gain in GAINS}
        lost = {norm: rows.mean(LOST[norm], norm=norm, gain="one") for norm in NAMES}
        which, large = (
            {norm: rows.mean("accuracy", task=task, norm=norm) for norm in NAMES} for task in ("which", "large")
        )
        return Answer(
            short=Text(
                en=f"Each norm keeps the order along its own axis (mean Kendall tau with gain 1: LayerNorm "
                f"{tau['layernorm', 'one']:.2f} between features, BatchNorm {tau['batchnorm', 'one']:.2f} between "
                f"samples) and disturbs the other ({lost['layernorm']:.2f} and {lost['batchnorm']:.2f}). What is "
                f"lost for good differs: a linear read-out still finds which feature is larger after BatchNorm "
                f"({which['batchnorm']:.0%}), because fixed statistics can be undone; after LayerNorm it tells a large sample "
                f"from a small one in {large['layernorm']:.0%} (chance 50%).",
                zh=f"两者都保持沿自身轴的顺序（增益为 1 时的平均 Kendall tau：层归一化在特征之间 {tau['layernorm', 'one']:.2f}，"
                f"批归一化在样本之间 {tau['batchnorm', 'one']:.2f}），并扰乱另一轴（{lost['layernorm']:.2f} 与 "
                f"{lost['batchnorm']:.2f}）。真正丢失的东西不同：批归一化之后，线性读出仍能找出更大的特征（"
                f"{which['batchnorm']:.0%}），因为固定的统计量可以还原；层归一化之后，判断样本大小的正确率为 "
                f"{large['layernorm']:.0%}（随机为 50%）。",
            ),
            imprecise=Text(
                en=f"The statement is about gain 1. Positive gains that differ already disturb LayerNorm's order (tau "
                f"{tau['layernorm', 'positive']:.2f}) but not BatchNorm's ({tau['batchnorm', 'positive']:.2f}); "
                f"gains of both signs disturb both ({tau['layernorm', 'signed']:.2f}, "
                f"{tau['batchnorm', 'signed']:.2f}). Features are not time steps: how tokens differ in size over "
                f"time is just what LayerNorm takes away.",
                zh=f"这一说法只针对增益为 1 的情形。大小不一的正增益已会扰乱层归一化的顺序（tau "
                f"{tau['layernorm', 'positive']:.2f}），但不影响批归一化（{tau['batchnorm', 'positive']:.2f}）；有正"
                f"有负的增益会扰乱两者（{tau['layernorm', 'signed']:.2f}、{tau['batchnorm', 'signed']:.2f}）。特征不"
                f"是时间步：各词大小随时间的变化，恰恰被层归一化抹掉了。",
            ),
            limits=Text(
                en=f"Random vectors of {FEATURES} features, {len(rows.distinct('seed'))} seeds; BatchNorm's "
                f"statistics are those of the training half.",
                zh=f"{FEATURES} 维随机向量，{len(rows.distinct('seed'))} 个种子；批归一化的统计量来自用于训练的那一半样本。",
            ),
            caption=Text(
                en="Left: rank correlation before and after a norm with gain 1, along both axes. Right: accuracy of a "
                "linear read-out.",
                zh="左：增益为 1 时，归一化前后沿两个轴的秩相关。右：线性读出的正确率。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (order, reading) = panels(2)
        axis_series = {
            f"between {axis}": [interval(rows.column(f"of_{axis}", norm=norm, gain="one")) for norm in NAMES]
            for axis in ("features", "samples")
        }
        grouped(order, list(NAMES.values()), axis_series)
        tasks = {"which": "which feature is larger", "large": "how large the sample is"}
        found = {
            NAMES.get(norm, "no norm"): [interval(rows.column("accuracy", task=task, norm=norm)) for task in tasks]
            for norm in ("none", *NAMES)
        }
        grouped(reading, list(tasks.values()), found)
        threshold(reading, 0.5, "chance")
        for axes in (order, reading):
            axes.legend(fontsize=7, loc="lower left")
        label(order, x="norm", y="Kendall's tau")
        label(reading, x="question", y="accuracy")
        return figure


def _orders(norm: str, gain: str, seed: int) -> Row:
    """Tau before and after a norm, between the features of samples and between the samples of features."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(-1, 1, FEATURES, dtype=torch.float64)
    samples = scales * torch.randn(SAMPLES, FEATURES, generator=generator, dtype=torch.float64)
    samples *= 0.5 + 2 * torch.rand(SAMPLES, 1, generator=generator, dtype=torch.float64)
    part = NORMS.get(norm)(FEATURES).double().train()
    gains = 0.5 + torch.rand(FEATURES, generator=generator, dtype=torch.float64)
    signs = torch.randn(FEATURES, generator=generator, dtype=torch.float64).sign()
    chosen = {"one": torch.ones_like(gains), "positive": gains, "signed": gains * signs}[gain]
    after = (part(samples) * chosen).detach()  # the gain of a new part is 1
    return {"norm": norm, "gain": gain, "of_features": _tau(samples, after), "of_samples": _tau(samples.T, after.T)}


def _tau(before: Tensor, after: Tensor) -> float:
    """The mean of Kendall's tau over the rows; it is 1 only if every one is."""
    found = [kendall(left.tolist(), right.tolist()) for left, right in zip(before, after, strict=True)]
    return 1.0 if all(each > 1 - 1e-12 for each in found) else sum(found) / len(found)


def _norms(seed: int) -> Row:
    """How far the norms of tokens are apart before and after LayerNorm, with its usual epsilon."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(0.5, 2, 12, dtype=torch.float64)[:, None]
    tokens = sizes * torch.randn(12, FEATURES, generator=generator, dtype=torch.float64)
    before, after = tokens.norm(dim=-1), LayerNorm(FEATURES).double()(tokens).detach().norm(dim=-1)
    return {"norms_before": before.max() / before.min(), "norms_after": after.max() / after.min() - 1}


def _reading(norm: str, seed: int) -> Iterable[Row]:
    """What a linear classifier reads behind a norm: which of two features is larger, and is the sample large."""
    generator = torch.Generator().manual_seed(seed)
    size = 0.5 + torch.rand(4000, 1, generator=generator)
    pattern = torch.cat((torch.ones(2), 0.5 + torch.rand(FEATURES - 2, generator=generator)))
    noise = torch.full((FEATURES,), 0.2)
    noise[1] = 0.6  # the first two features differ in spread
    vectors = size * (pattern + noise * torch.randn(4000, FEATURES, generator=generator))
    labels = {"which": vectors[:, 0] > vectors[:, 1], "large": size[:, 0] > 1.0}
    options = {"momentum": 1.0} if norm == "batchnorm" else {}
    part = NORMS.build(Choice(kind=norm, options=options), FEATURES).train()
    part(vectors[:2000])  # statistics are those of the training half
    seen = part.eval()(vectors).detach()
    for name, wanted in labels.items():
        yield {"norm": norm, "task": name, "accuracy": readout(seen, wanted.long(), seed)}
