"""Why do Transformers for text use LayerNorm instead of BatchNorm?"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from clearhead.lab.pictures import grouped, label, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval
from clearhead.lab.training import Plan, build, decoder, encoder, examples, logits, loss_of, task, train
from clearhead.model import Transformer
from clearhead.model.norm import BatchNorm

NEAR = 0.05  # nats
CLASSIFY = {"kind": "classify", "pooling": "mean", "dense": "none"}
TASKS: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {  # name: task, its options, the model's
    "language": ("pcfg", {"length": 16}, {}),
    "topics": ("topics", {"shortest": 2, "longest": 24, "clarity": 0.3}, {"head": {**CLASSIFY, "labels": 10}}),
    "digits": (
        "digits",
        {"patch": None},
        {"head": {**CLASSIFY, "labels": 10}, "embedding": {"kind": "patches", "class_token": False}},
    ),
}
ZH = {"language": "语言模型（解码器）", "topics": "文本分类（编码器）", "digits": "数字图片（编码器）"}
RATES = (3e-3, 1e-2)  # of which each setting gets the better one
BOTH = ("layernorm", "batchnorm")
NAMES = {"layernorm": "LayerNorm", "batchnorm": "BatchNorm", "powernorm": "PowerNorm"}


@QUESTIONS.register("layernorm-vs-batchnorm")
class LayernormVsBatchnorm(Question):
    """The same models with three norms, on text read in one direction, text read whole, and pictures."""

    topic = "norm-residual"
    title = Text(
        en="Why do Transformers for text use LayerNorm and not BatchNorm: a principle or experience?",
        zh="处理文本的 Transformer 为何偏好层归一化？这是原理决定的还是经验结果？",
    )
    sources = (
        Source("000", "12"),
        Source("002", "1.3(2)3)"),
        Source("002", "1.3(3)"),
        Source("003", "I.12"),
        Source("004", "3"),
    )
    claims = (
        Claim(
            "dynamic",
            Text(
                en="LayerNorm suits models without a fixed batch size, above all decoders, and settings in which "
                "order does not matter.",
                zh="层归一化适合批量不固定的模型，尤其是解码器，以及与顺序无关的场合。",
            ),
            Source("000", "12"),
            note=Text(
                en="Order is an odd reason: translation depends on it.",
                zh="“与顺序无关”这个理由很奇怪：翻译恰恰依赖顺序。",
            ),
        ),
        Claim(
            "meaning",
            Text(
                en="BatchNorm is poor in text, not mainly because lengths differ but because a place has no common "
                "meaning.",
                zh="批归一化在文本上效果差，主要不是因为长短不一，而是因为同一位置没有共同含义。",
            ),
            Source("002", "1.3(2)3)"),
            note=Text(en="Pooled BatchNorm does not ask for the place.", zh="合并统计的批归一化并不区分位置。"),
        ),
        Claim(
            "small",
            Text(
                en="LayerNorm is right for small batches and for sequences; BatchNorm cannot be used with unequal "
                "lengths.",
                zh="层归一化适合小批量和序列；长短不一时不能用批归一化。",
            ),
            Source("004", "3"),
            note=Text(
                en="The second half is tried in batchnorm-variable-length as well.",
                zh="后半句另见 batchnorm-variable-length。",
            ),
        ),
    )
    prediction = Text(
        en="BatchNorm loses clearly only in the decoder, because in training its statistics contain the tokens to be "
        "predicted; the loss it shows in training is too good. In encoders of text and of pictures it is as good as "
        "LayerNorm. So the decoder's case is one of principle, the encoder's one of experience.",
        zh="批归一化只在解码器中明显落后，因为训练时的统计量包含待预测的词，训练损失虚低。在文本编码器和图片编码器中，"
        "它与层归一化不相上下。因此解码器是原理问题，编码器是经验问题。",
    )
    criterion = Text(
        en="Loss on fresh data in evaluation mode, each setting at the better of two rates; 'trails' means more than "
        "LayerNorm's by a paired interval above 0, 'near' that the interval lies below +0.05 nats. dynamic: "
        "supported if BatchNorm trails in the language model with batches of 32 and of 4; depends if in one; refuted "
        "if both intervals lie below +0.05 nats; else inconclusive. meaning: refuted if BatchNorm trails in the "
        "language model, whose texts are all equally long, and is near on texts of unequal length in the encoder; "
        "supported if it trails on both and is near on pictures; depends if it trails on neither; else inconclusive. "
        "small: of its halves, (a) BatchNorm's lag in the language model is larger with batches of 4 than of 32 "
        "(paired interval), (b) BatchNorm trails on texts of unequal length by over 0.05 nats; both: supported; one: "
        "depends; none, with both intervals below +0.05 nats: refuted; else inconclusive.",
        zh="指标为评估模式下新数据的损失，每种设置取两个学习率中较好者；“落后”指比层归一化高、配对区间在 0 以上，“接"
        "近”指区间低于 +0.05 奈特。动态：语言模型中批量 32 与 4 时批归一化都落后则成立，其一落后则视情况而定，两个区"
        "间都低于 +0.05 奈特则不成立，其余尚无定论。含义：在长度全相同的语言模型上落后、而在长短不一的文本编码器上接"
        "近，则不成立；两者都落后且在图片上接近则成立；两者都不落后则视情况而定；其余尚无定论。小批量：（甲）语言模型"
        "中批归一化的差距在批量 4 时大于 32（配对区间）；（乙）在长短不一的文本上落后 0.05 奈特以上；两项都满足则成"
        "立，一项则视情况而定，都不满足且两个区间都低于 +0.05 奈特则不成立，其余尚无定论。",
    )
    parts = (
        "clearhead.model.norm.layernorm:LayerNorm",
        "clearhead.model.norm.batchnorm:BatchNorm",
        "clearhead.model.norm.batchnorm:PowerNorm",
    )
    references = (
        "Shen et al., 2020, arXiv:2003.07845",
        "Yao et al., 2021, Leveraging batch normalization for vision transformers, ICCV workshops",
        "Ba, Kiros and Hinton, 2016, arXiv:1607.06450",
        "Xiong et al., 2020, arXiv:2002.04745",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        settings = [*((name, norm, 32) for name in TASKS for norm in NAMES), *(("language", norm, 4) for norm in BOTH)]
        for seed in scale.seeds(quick=1, full=6):
            for name, norm, batch in settings:
                for rate in scale.pick(quick=RATES[:1], full=RATES):
                    updates = scale.pick(quick=3, full=120)
                    yield {"task": name, "norm": norm, "batch": batch, "rate": rate, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        name, seed, batch = str(cell["task"]), int(cell["seed"] or 0), int(cell["batch"] or 0)
        kind, options, changes = TASKS[name]
        learned, fresh = task(kind, options), task(kind, {**options, **({"split": "test"} if name == "digits" else {})})
        shape = decoder if name == "language" else encoder
        model = build(shape(max(learned.vocab, 1), {**changes, "norm": str(cell["norm"])}), seed)
        for _ in train(
            model, learned, Plan(updates=int(cell["updates"] or 0), batch=batch, rate=float(cell["rate"] or 0)), seed
        ):
            pass
        samples = examples(fresh, 512, seed, "score")
        with torch.no_grad():
            loss = float(loss_of(logits(model.eval(), samples), samples.labels))
            seen = [examples(fresh, batch, seed, "batch", each) for each in range(16)]
            training, drift = _in_training(model, seen)
        return [{"loss": loss - (fresh.best or 0.0), "training_loss": training - (fresh.best or 0.0), "drift": drift}]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        rows = _tuned(rows)
        lag = {name: _lag(rows, name, 32) for name in TASKS}
        few = _lag(rows, "language", 4)
        known = few.count > 1
        trails = [lag["language"].above, few.above]
        dynamic = (
            Verdict.SUPPORTED
            if all(trails)
            else Verdict.DEPENDS
            if any(trails)
            else Verdict.REFUTED
            if max(lag["language"].high, few.high) < NEAR
            else Verdict.INCONCLUSIVE
        )
        more = interval(
            [left - right for left, right in zip(_lags(rows, "language", 4), _lags(rows, "language", 32), strict=True)]
        )
        halves = more.above + (lag["topics"].low > NEAR)
        sure = max(more.high, lag["topics"].high) < NEAR
        small = (Verdict.REFUTED if sure else Verdict.INCONCLUSIVE, Verdict.DEPENDS, Verdict.SUPPORTED)[halves]
        listed_en = ", ".join(f"{name} {lag[name].mean:+.3f}" for name in TASKS)
        listed_zh = "，".join(f"{ZH[name]}{lag[name].mean:+.3f}" for name in TASKS)
        return {
            "dynamic": Judgement(
                dynamic if known else Verdict.INCONCLUSIVE,
                Text(
                    en=f"BatchNorm's loss minus LayerNorm's in the language model: {lag['language'].mean:+.3f} nats "
                    f"with batches of 32, {few.mean:+.3f} with batches of 4.",
                    zh=f"语言模型中批归一化与层归一化的损失之差：批量 32 时 {lag['language'].mean:+.3f} 奈特，批量 4 "
                    f"时 {few.mean:+.3f} 奈特。",
                ),
            ),
            "meaning": Judgement(
                _meaning(lag) if known else Verdict.INCONCLUSIVE,
                Text(
                    en=f"BatchNorm's loss minus LayerNorm's in nats: {listed_en}.",
                    zh=f"批归一化与层归一化的损失之差（奈特）：{listed_zh}。",
                ),
            ),
            "small": Judgement(
                small if known else Verdict.INCONCLUSIVE,
                Text(
                    en=f"From batches of 32 to 4 BatchNorm's lag changes by {more.mean:+.3f} nats; on texts of "
                    f"unequal length its lag is {lag['topics'].mean:+.3f} nats.",
                    zh=f"批量从 32 减到 4，批归一化的差距变化 {more.mean:+.3f} 奈特；在长短不一的文本上差距为 "
                    f"{lag['topics'].mean:+.3f} 奈特。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        rates, rows = rows.distinct("rate"), _tuned(rows)
        lag = {name: _lag(rows, name, 32) for name in TASKS}
        flattered = {norm: _flattered(rows, "language", norm) for norm in NAMES}
        drift = {name: rows.mean("drift", task=name, norm="batchnorm", batch=32) for name in TASKS}
        power = {name: interval(_lags(rows, name, 32, "powernorm")).mean for name in TASKS}
        seeds = len(rows.distinct("seed"))
        return Answer(
            short=Text(
                en=f"BatchNorm's loss minus LayerNorm's is {lag['language'].mean:+.2f} nats in a decoder, "
                f"{lag['topics'].mean:+.2f} in an encoder of text and {lag['digits'].mean:+.2f} in one of pictures. "
                f"A flaw of principle remains in decoders: in training the statistics contain the tokens to come. "
                f"Here, on the same texts, the loss in evaluation minus that in training mode is {round(flattered['batchnorm'], 3) + 0.0:+.3f} "
                f"nats (LayerNorm: {round(flattered['layernorm'], 3) + 0.0:+.3f}). LayerNorm computes the same in "
                f"training, in evaluation and token by token.",
                zh=f"批归一化与层归一化的损失之差：解码器 {lag['language'].mean:+.2f} 奈特，文本编码器 "
                f"{lag['topics'].mean:+.2f}，图片编码器 {lag['digits'].mean:+.2f}。对解码器而言，原理上的缺陷始终存在"
                f"：训练时的统计量包含后文的词。这里同样的文本，评估模式减训练模式的损失为 "
                f"{round(flattered['batchnorm'], 3) + 0.0:+.3f} 奈特（层归一化为 {round(flattered['layernorm'], 3) + 0.0:+.3f}）。层归一化在训练、评"
                f"估和逐词生成时的计算完全相同。",
            ),
            imprecise=Text(
                en=f"Neither unequal length nor the meaning of places enters pooled BatchNorm with a mask. Its "
                f"statistics drift by {drift['language']:.2f} standard deviations from batch to batch in the "
                f"language model, {drift['topics']:.2f} in topics and {drift['digits']:.2f} in pictures; that text "
                f"as such drifts more must be read off these numbers, not taken for granted.",
                zh=f"带掩码、合并统计的批归一化既不涉及长短不一，也不涉及位置的含义。它的统计量在批与批之间的漂移：语"
                f"言模型 {drift['language']:.2f} 个标准差，主题分类 {drift['topics']:.2f}，图片 "
                f"{drift['digits']:.2f}；文本是否漂移更大，要看这些数字，而不能想当然。",
            ),
            limits=Text(
                en=f"2 layers of width 32, synthetic text and 8 x 8 digits, {rows.distinct('updates')[0]} updates, "
                f"the better of {len(rates)} rate(s), {seeds} seed(s); larger models on real text may differ (Shen "
                f"et al. report a clear loss there). PowerNorm here is the variant with statistics of the batch "
                f"(against LayerNorm: language {power['language']:+.2f}, topics {power['topics']:+.2f}, digits "
                f"{power['digits']:+.2f} nats).",
                zh=f"2 层、宽 32，合成文本与 8×8 数字，{rows.distinct('updates')[0]} 次更新，取 {len(rates)} 个学习率"
                f"中较好者，{seeds} 个种子；更大的模型和真实文本可能不同（Shen 等人报告那里差距明显）。这里的 "
                f"PowerNorm 是使用当批统计量的版本（与层归一化之差：语言 {power['language']:+.2f}，主题 "
                f"{power['topics']:+.2f}，数字 {power['digits']:+.2f} 奈特）。",
            ),
            caption=Text(
                en="Left: loss of the norms in evaluation. Right: how much lower the loss looks in training mode on "
                "the same data.",
                zh="左：各归一化在评估模式下的损失。右：同样数据在训练模式下损失看起来低多少。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        rows = _tuned(rows)
        figure, (losses, gaps) = panels(2, width=5.0, height=3.6)
        for axes, values in ((losses, _losses), (gaps, _gaps)):
            series = {shown: [interval(values(rows, name, norm)) for name in TASKS] for norm, shown in NAMES.items()}
            grouped(axes, list(TASKS), series)
        label(losses, x="task", y="loss above the best possible (nats)", title="evaluation mode")
        label(gaps, x="task", y="evaluation minus training mode (nats)", title="the same data in both modes")
        return figure


def _in_training(model: Transformer, batches: list[Any]) -> tuple[float, float | None]:
    """Mean loss in training mode, and how far a batch's means lie from the running ones, in standard deviations."""
    norms = [each for each in model.modules() if isinstance(each, BatchNorm)]
    kept = [(each.mean.clone(), each.variance.clone()) for each in norms]
    losses, drifts = [], []
    for samples in batches:
        for norm, (mean, variance) in zip(norms, kept, strict=True):
            norm.momentum = 1.0  # the running statistics become those of this batch
            norm.mean.copy_(mean)
            norm.variance.copy_(variance)
        losses.append(float(loss_of(logits(model.train(), samples), samples.labels)))
        for norm, (mean, variance) in zip(norms, kept, strict=True):
            drifts.append(float(((norm.mean - mean) / (variance + norm.epsilon).sqrt()).square().mean().sqrt()))
    return float(np.mean(losses)), float(np.mean(drifts)) if drifts else None


def _tuned(rows: Rows) -> Rows:
    """Of each task, norm and batch size the runs at its better rate, by the mean over seeds."""
    kept: list[Row] = []
    for name, norm, batch in dict.fromkeys((each["task"], each["norm"], each["batch"]) for each in rows):
        own = rows.where(task=name, norm=norm, batch=batch)
        kept += own.where(rate=min(own.distinct("rate"), key=partial(_at_rate, own)))
    return Rows(kept)


def _at_rate(rows: Rows, rate: float) -> float:
    return rows.mean("loss", rate=rate)


def _lags(rows: Rows, name: str, batch: int, norm: str = "batchnorm") -> list[float]:
    return rows.where(task=name, batch=batch).paired("loss", {"norm": norm}, {"norm": "layernorm"})


def _lag(rows: Rows, name: str, batch: int) -> Interval:
    """BatchNorm's loss minus LayerNorm's, paired by seed."""
    return interval(_lags(rows, name, batch))


def _gaps(rows: Rows, name: str, norm: str) -> list[float]:
    own = rows.where(task=name, norm=norm, batch=32)
    return [left - right for left, right in zip(own.column("loss"), own.column("training_loss"), strict=True)]


def _losses(rows: Rows, name: str, norm: str) -> list[float]:
    return rows.column("loss", task=name, norm=norm, batch=32)


def _flattered(rows: Rows, name: str, norm: str) -> float:
    """By how much the loss looks better in training mode, on average."""
    return float(np.mean(_gaps(rows, name, norm)))


def _meaning(lag: Mapping[str, Interval]) -> Verdict:
    near = {name: each.high < NEAR for name, each in lag.items()}
    if lag["language"].above and near["topics"]:
        return Verdict.REFUTED
    if lag["language"].above and lag["topics"].above and near["digits"]:
        return Verdict.SUPPORTED
    return Verdict.DEPENDS if not (lag["language"].above or lag["topics"].above) else Verdict.INCONCLUSIVE
