"""Over which axis does layer normalisation take its statistics?"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from clearhead.data.synthetic import Task
from clearhead.lab.parts.replacing import replace_parts
from clearhead.lab.parts.sentence_norm import SentenceNorm
from clearhead.lab.parts.whole_source import WholeSource
from clearhead.lab.pictures import COLOURS, grouped, label, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import equivalent, interval
from clearhead.lab.training import Plan, build, decoder, encoder, logits, score, task, train
from clearhead.model import Transformer
from clearhead.model.norm import NORMS, LayerNorm

BATCH, LENGTH, FEATURES = 16, 7, 24
EXACT = 1e-12  # largest difference, float64, that counts as none
LEAK = 1e-3  # a change of a logit above this is a leak
OFF = 0.1  # a mean of a feature above this is not standardised
MARGIN = 0.05  # accuracy
NORMS_ON_TRIAL = ("layernorm", "sentence", "batchnorm", "positional_batchnorm")
TRAINED = ("layernorm", "batchnorm", "positional_batchnorm")
SHORT = {
    "layernorm": "LayerNorm",
    "sentence": "sentence",
    "batchnorm": "BatchNorm",
    "positional_batchnorm": "per position",
}
TASKS = {"topics": 80, "reverse": 240}  # updates at full scale


@QUESTIONS.register("layernorm-axis")
class LayernormAxis(Question):
    """What moves a normalised token, what leaks, and what each axis can learn."""

    topic = "norm-residual"
    title = Text(
        en="Over which axis does LayerNorm take its statistics: one token's features, a sentence's words, or both?",
        zh="层归一化沿哪个轴统计：单个词的特征、整句的各个词，还是两者一起？",
    )
    sources = (
        Source("002", "1.3(2)3)"),
        Source("002", "1.3(3)"),
        Source("000", "12"),
        Source("004", "3"),
        Source("003", "I.12"),
    )
    claims = (
        Claim(
            "sentence",
            Text(
                en="LayerNorm takes the words of a sentence as one feature and normalises along the text.",
                zh="层归一化把一句话的各个词当作一个特征，沿文本长度方向归一化。",
            ),
            Source("002", "1.3(3)"),
            note=Text(en="It carries a convention of images over to text.", zh="这是把图像领域的约定搬到了文本上。"),
        ),
        Claim(
            "each-feature",
            Text(en="LayerNorm standardises every feature dimension.", zh="层归一化对每个特征维度做标准化。"),
            Source("000", "12"),
            note=Text(en="Taken literally this is batch normalisation.", zh="按字面理解，说的其实是批归一化。"),
        ),
        Claim(
            "all-features",
            Text(en="LayerNorm normalises over all features of a sample.", zh="层归一化对一个样本的全部特征做归一化。"),
            Source("004", "3"),
            note=Text(
                en="It does not say whether a sample is a token or a sentence.", zh="没有说明样本是一个词还是一句话。"
            ),
        ),
        Claim(
            "batchnorm",
            Text(
                en="In text BatchNorm takes words at the same place of different sentences as one feature, and so "
                "fails.",
                zh="在文本中，批归一化把不同句子同一位置的词视为同一特征，因此没有效果。",
            ),
            Source("002", "1.3(2)3)"),
            note=Text(
                en="Only a variant with statistics for each position does so.", zh="只有按位置分别统计的变体才是这样。"
            ),
        ),
    )
    prediction = Text(
        en="Other tokens change a token by exactly 0 under LayerNorm, and a norm over the sentence lets a decoder see "
        "the future. Pooled BatchNorm learns as well as LayerNorm; the one for each position also removes the "
        "position code and does worse.",
        zh="层归一化下其他词的影响恰为 0；整句统计会让解码器看到未来。合并统计的批归一化与层归一化学得一样好；按位置统"
        "计的变体还会抹掉位置编码，效果较差。",
    )
    criterion = Text(
        en="sentence: refuted if LayerNorm lets other tokens change a token by exactly 0, agrees with torch within "
        "1e-12, its decoder leaks at most 1e-12 and that of a sentence norm more than 1e-3; supported if LayerNorm's "
        "own decoder leaks more than 1e-3. each-feature: refuted if tokens have mean 0 within 1e-12 while a feature "
        "keeps a mean above 0.1. all-features: depends if statistics are those of a token within 1e-12 and not those "
        "of a sentence. batchnorm: depends if one of its two kinds trails LayerNorm by over 5 points on a task "
        "(interval) and the other never does (equivalence test or better); supported if both trail; refuted if none "
        "does.",
        zh="整句：层归一化中其他词的影响恰为 0，与 torch 之差不超过 1e-12，其解码器泄漏不超过 1e-12，而整句归一化的泄"
        "漏超过 1e-3，则不成立；若层归一化自己的泄漏超过 1e-3 则成立。每个特征：各词均值在 1e-12 内为 0，而某个特征的"
        "均值仍大于 0.1，则不成立。全部特征：统计量与单个词的相差不超过 1e-12 且不同于整句的，则视情况而定。批归一化"
        "：两种做法中一种在某任务上落后层归一化 5 个百分点以上（置信区间）、另一种从不落后（等价检验或更好），则视情"
        "况而定；两种都落后则成立；都不落后则不成立。",
    )
    parts = ("clearhead.model.norm.layernorm:LayerNorm", "clearhead.model.norm.batchnorm:PositionalBatchNorm")
    references = (
        "Ba, Kiros and Hinton, 2016, arXiv:1607.06450, section 3",
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.1",
        "Wu and He, 2018, arXiv:1803.08494, figure 2 (the axes for images)",
        "Shen et al., 2020, arXiv:2003.07845, section 1",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=3):
            for norm in NORMS_ON_TRIAL:
                yield {"part": "exact", "norm": norm, "seed": seed}
        for seed in scale.seeds(quick=1, full=10):
            for name, updates in TASKS.items():
                for norm in TRAINED:
                    count = scale.pick(quick=3, full=updates)
                    yield {"part": "training", "task": name, "norm": norm, "updates": count, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed, norm = int(cell["seed"] or 0), str(cell["norm"])
        if cell["part"] == "exact":
            return [{**_statistics(norm, seed), "leak": _leak(norm, seed)}]
        read, changes = _task(str(cell["task"]))
        model = _with_norm(build(encoder(read.vocab, {**changes, "norm": _registered(norm)}), seed), norm)
        for _ in train(model, read, Plan(updates=int(cell["updates"] or 0)), seed):
            pass
        return [{"accuracy": score(model, read, seed).accuracy}]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        own = {
            name: max(rows.column(name, part="exact", norm="layernorm"))
            for name in ("others", "torch", "leak", "token")
        }
        sentence, feature = _exact(rows, "sentence", "leak"), _exact(rows, "layernorm", "feature_mean")
        trailing = {norm: _trails(rows, norm) for norm in ("batchnorm", "positional_batchnorm")}
        refuted = own["others"] == 0 and own["torch"] <= EXACT and own["leak"] <= EXACT and sentence > LEAK
        by_token = own["token"] <= EXACT
        return {
            "sentence": Judgement(
                _either(refuted, Verdict.REFUTED, own["leak"] > LEAK, Verdict.SUPPORTED),
                Text(
                    en=f"Other tokens change a token by {own['others']:.3g}; a later token changes earlier logits by "
                    f"{own['leak']:.3g} with LayerNorm and by {sentence:.3g} with a norm over the sentence.",
                    zh=f"其他词使一个词改变 {own['others']:.3g}；后面的词使前面的 logits 改变：层归一化 "
                    f"{own['leak']:.3g}，整句归一化 {sentence:.3g}。",
                ),
            ),
            "each-feature": Judgement(
                _either(by_token and feature > OFF, Verdict.REFUTED, feature <= EXACT, Verdict.SUPPORTED),
                Text(
                    en=f"After LayerNorm a feature keeps a mean of up to {feature:.3g} over the tokens; BatchNorm "
                    f"leaves {_exact(rows, 'batchnorm', 'feature_mean'):.1g}.",
                    zh=f"层归一化之后，某个特征在各词上的均值仍达 {feature:.3g}；批归一化之后为 "
                    f"{_exact(rows, 'batchnorm', 'feature_mean'):.1g}。",
                ),
            ),
            "all-features": Judgement(
                _either(by_token and refuted, Verdict.DEPENDS, not by_token, Verdict.REFUTED),
                Text(
                    en=f"Right if a sample is a token (difference {own['token']:.1g}), wrong if it is a sentence "
                    f"(difference {_exact(rows, 'layernorm', 'whole'):.2g}).",
                    zh=f"样本指一个词时正确（差 {own['token']:.1g}），指一句话时错误（差 "
                    f"{_exact(rows, 'layernorm', 'whole'):.2g}）。",
                ),
            ),
            "batchnorm": Judgement(_of_both(list(trailing.values())), _accuracies(rows)),
        }

    def answer(self, rows: Rows) -> Answer:
        seeds, updates = (
            len(rows.where(part="training").distinct("seed")),
            rows.where(part="training").distinct("updates"),
        )
        accuracies = _accuracies(rows)
        return Answer(
            short=Text(
                en=f"LayerNorm in a Transformer looks at the features of one token and at nothing else: changing "
                f"every other word changes its result by {_exact(rows, 'layernorm', 'others'):.3g}. A norm over the "
                f"whole sentence would let a decoder read the future (logits move by "
                f"{_exact(rows, 'sentence', 'leak'):.2g}). BatchNorm as it is usually built pools all tokens and "
                f"knows no places. {accuracies.en}",
                zh=f"Transformer 中的层归一化只看一个词自身的特征：改动其余所有词，结果变化 "
                f"{_exact(rows, 'layernorm', 'others'):.3g}。若按整句统计，解码器就能读到未来（logits 变化 "
                f"{_exact(rows, 'sentence', 'leak'):.2g}）。常见的批归一化把所有词合在一起统计，并不区分位置。"
                f"{accuracies.zh}",
            ),
            imprecise=Text(
                en="'Along the length', 'every feature dimension' and 'all features of a sample' are three different "
                "axes; only the last is right, with a token as the sample. Statistics for each place subtract the "
                "mean of each place, and with it most of the position code.",
                zh="“沿长度方向”“每个特征维度”“一个样本的全部特征”是三个不同的轴；只有最后一个正确，且样本指一个词。按"
                "位置统计会减去每个位置的均值，位置编码也就大部分被减掉了。",
            ),
            limits=Text(
                en=f"Exact checks in float64; training: 2 layers of width 32, {seeds} seed(s), {min(updates)} to "
                f"{max(updates)} updates, before everything is learned.",
                zh=f"精确检验用 float64；训练为 2 层、宽 32、{seeds} 个种子、{min(updates)} 至 {max(updates)} 次更新，"
                f"尚未完全收敛。",
            ),
            caption=Text(
                en="Left: how far other tokens move a token, and later tokens earlier logits (0 is drawn at the "
                "foot; decoders do not take the per-position kind). Right: accuracy of encoders with each norm.",
                zh="左：其他词对一个词的影响，以及后文对前文 logits 的影响（0 画在底端；解码器不接受按位置统计的变体"
                "）。右：使用各归一化的编码器的正确率。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (reach, learned) = panels(2, width=4.8)
        names = [SHORT[each] for each in NORMS_ON_TRIAL]
        for place, (column, name) in enumerate(
            (("others", "a token, by the others"), ("leak", "earlier logits, by later tokens"))
        ):
            seen = [
                (at, _exact(rows, norm, column)) for at, norm in enumerate(NORMS_ON_TRIAL) if _has(rows, norm, column)
            ]
            values = [max(value, 1e-17) for _, value in seen]
            reach.plot(
                [at for at, _ in seen], values, "os"[place], color=COLOURS[place], label=name, markersize=11 - 4 * place
            )
        reach.set_yscale("log")
        reach.set_xticks(range(len(names)), names)
        threshold(reach, LEAK, "a leak")
        reach.legend(fontsize=8)
        label(reach, x="norm", y="largest change (float64)", title="what one token sees of others")
        tasks = rows.where(part="training").distinct("task")
        series = {
            SHORT[norm]: [interval(rows.column("accuracy", part="training", task=name, norm=norm)) for name in tasks]
            for norm in TRAINED
        }
        grouped(learned, tasks, series)
        label(learned, x="task", y="accuracy (share of labels)", title="what it learns")
        return figure


def _registered(norm: str) -> str:
    """The name in recipes of the norm that a model is built with."""
    return norm if norm in NORMS.names() else "layernorm"


def _with_norm(model: Transformer, norm: str) -> Transformer:
    return replace_parts(model, LayerNorm, lambda part: SentenceNorm(len(part.weight))) if norm == "sentence" else model


def _task(name: str) -> tuple[Task, dict[str, Any]]:
    """A task with what its model needs."""
    if name == "topics":
        return task("pcfg_topics"), {"head": {"kind": "classify", "labels": 5, "pooling": "mean", "dense": "none"}}
    return WholeSource(task("reverse", {"length": 8, "shortest": 4, "form": "encoder_decoder"})), {}


def _statistics(norm: str, seed: int) -> Row:
    """What a norm in training mode does to random tokens whose features and spreads differ."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(BATCH, LENGTH, FEATURES, generator=generator, dtype=torch.float64)
    spread = torch.rand(BATCH, LENGTH, FEATURES, generator=generator, dtype=torch.float64) + 0.5
    hidden = normal * spread + 2 * torch.randn(FEATURES, generator=generator, dtype=torch.float64)
    part = (SentenceNorm(FEATURES) if norm == "sentence" else NORMS.get(norm)(FEATURES)).double().train()
    result = part(hidden).detach()  # (batch, length, features)
    others = hidden.clone()
    others.view(-1, FEATURES)[1:] = torch.randn(BATCH * LENGTH - 1, FEATURES, generator=generator, dtype=torch.float64)
    return {
        "others": (part(others)[0, 0] - result[0, 0]).abs().max().detach(),
        "torch": (F.layer_norm(hidden, (FEATURES,)) - result).abs().max(),
        "token": (_standard(hidden, (2,)) - result).abs().max(),
        "whole": (_standard(hidden, (1, 2)) - result).abs().max(),
        "feature_mean": result.mean(dim=(0, 1)).abs().max(),
    }


def _standard(hidden: Tensor, axes: tuple[int, ...], epsilon: float = 1e-5) -> Tensor:
    """To mean 0 and variance 1 over these axes, written out."""
    centred = hidden - hidden.mean(dim=axes, keepdim=True)
    return centred / (centred.square().mean(dim=axes, keepdim=True) + epsilon).sqrt()


def _leak(norm: str, seed: int) -> float | None:
    """The most that earlier logits of a causal model in training mode change with the last token; None = refused."""
    if not NORMS.get(_registered(norm)).decodes:  # type: ignore[attr-defined]
        return None
    text = task("markov", {"length": LENGTH})
    model = _with_norm(build(decoder(text.vocab, {"norm": _registered(norm)}), seed), norm).double().train()
    samples = text.draw(BATCH, torch.Generator().manual_seed(seed))
    before = logits(model, samples)
    samples.tokens[:, -1] = samples.tokens[:, -1] % (text.vocab - 1) + 1
    return float((logits(model, samples) - before)[:, :-1].detach().abs().max())


def _exact(rows: Rows, norm: str, column: str) -> float:
    return max(rows.column(column, part="exact", norm=norm))


def _has(rows: Rows, norm: str, column: str) -> bool:
    return any(each[column] is not None for each in rows.where(part="exact", norm=norm))


def _either(first: bool, then: Verdict, second: bool, other: Verdict) -> Verdict:  # noqa: FBT001
    return then if first else other if second else Verdict.INCONCLUSIVE


def _trails(rows: Rows, norm: str) -> bool | None:
    """True if surely more than the margin behind LayerNorm on a task, False if surely not on any, None if not known."""
    found = []
    for name in rows.where(part="training").distinct("task"):
        lead = rows.paired("accuracy", {"task": name, "norm": norm}, {"task": name, "norm": "layernorm"})
        behind, near = interval(lead).high < -MARGIN, equivalent(lead, MARGIN) or interval(lead).low > -MARGIN
        found.append(True if behind else False if near else None)
    return True if True in found else None if None in found else False


def _of_both(trailing: list[bool | None]) -> Verdict:
    if None in trailing:
        return Verdict.INCONCLUSIVE
    return {0: Verdict.REFUTED, 1: Verdict.DEPENDS, 2: Verdict.SUPPORTED}[sum(map(bool, trailing))]


def _accuracies(rows: Rows) -> Text:
    parts_en, parts_zh = [], []
    for name, zh in (("topics", "主题分类"), ("reverse", "倒序")):
        means = [rows.mean("accuracy", part="training", task=name, norm=norm) for norm in TRAINED]
        parts_en.append(
            f"{name}: LayerNorm {means[0]:.0%}, pooled BatchNorm {means[1]:.0%}, per position {means[2]:.0%}"
        )
        parts_zh.append(f"{zh}：层归一化 {means[0]:.0%}，合并统计的批归一化 {means[1]:.0%}，按位置统计 {means[2]:.0%}")
    return Text(en=f"Accuracy on {'; '.join(parts_en)}.", zh=f"正确率，{'；'.join(parts_zh)}。")
