"""What can go wrong when a Transformer becomes very deep?"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from clearhead.lab.pictures import label, line, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval, spearman
from clearhead.lab.training import Plan, build, decoder, examples, logits, loss_of, task, train
from clearhead.model import Transformer
from clearhead.model.recorder import EVERYTHING, recording

PLACES = {"post": "post-norm", "pre": "pre-norm", "deepnorm": "DeepNorm"}
CONTROL = "none"  # no shortcuts: where collapse is known to happen
RISES = 0.9  # rank correlation
CHEAP = 0.02  # of the loss


@QUESTIONS.register("depth-pathologies")
class DepthPathologies(Question):
    """Likeness of tokens and gradients at the start, training at three depths, and layers taken away."""

    topic = "norm-residual"
    title = Text(
        en="What can go wrong when a Transformer becomes very deep?", zh="Transformer 堆得过深会出现哪些现象？"
    )
    sources = (Source("003", "II.18"),)
    claims = (
        Claim(
            "premise",
            Text(en="Too much depth leads to something harmful.", zh="过深会带来不良现象。"),
            Source("003", "II.18"),
            note=Text(
                en="The document does not say what; the three known candidates follow.",
                zh="原文没有说明是什么现象；以下三条是已知的候选。",
            ),
        ),
        Claim(
            "collapse",
            Text(en="Tokens become alike with depth.", zh="随着深度增加，各个词的表示趋于相同。"),
            Source("003", "II.18"),
        ),
        Claim(
            "training",
            Text(
                en="Deep post-norm models fail to train where DeepNorm does not.",
                zh="很深的后归一化模型训练失败，而 DeepNorm 不会。",
            ),
            Source("003", "II.18"),
        ),
        Claim(
            "redundant",
            Text(
                en="The last layers of a deep pre-norm model do almost nothing.",
                zh="很深的前归一化模型，最后几层几乎不起作用。",
            ),
            Source("003", "II.18"),
        ),
    )
    prediction = Text(
        en="At the start tokens become more alike with depth in post-norm, little in pre-norm. At 24 layers post-norm "
        "learns worse than at 6 and DeepNorm does not. Taking the last quarter from a trained pre-norm model costs "
        "more than 2 %: after so short a training all layers still matter through the last norm.",
        zh="训练开始时，后归一化中词的表示随深度趋同，前归一化中变化不大。24 层时后归一化比 6 层学得差，DeepNorm 不"
        "会。从训练过的前归一化模型中去掉最后四分之一的层，代价超过 2%：训练时间这么短，各层仍通过最后的归一化起作"
        "用。",
    )
    criterion = Text(
        en="collapse (at the start, depths 2 to 48): for post-norm, pre-norm and DeepNorm the rank correlation of "
        "depth and mean cosine between tokens after the last block is above 0.9; all: supported; some: depends; "
        "none: refuted. training: supported if the loss at the largest depth is above that at the middle one for "
        "post-norm (paired interval) and not for DeepNorm; depends if for both; refuted if the interval for "
        "post-norm is not above 0. redundant: supported if taking the last quarter of the deepest pre-norm model "
        "raises the loss by surely less than 2 %; refuted if surely by more. premise: supported if one of the three "
        "is, refuted if all are refuted, else depends.",
        zh="趋同（训练开始时，2 至 48 层）：后归一化、前归一化、DeepNorm 三者中，深度与末块之后词间平均余弦的秩相关高"
        "于 0.9 者，全部如此则成立，部分则视情况而定，都不则不成立。训练：最大深度的损失高于中等深度（配对区间），后"
        "归一化如此而 DeepNorm 不如此则成立，两者都如此则视情况而定，后归一化的区间不在 0 以上则不成立。冗余：去掉最"
        "深前归一化模型的最后四分之一，损失上升确定低于 2% 则成立，确定高于则不成立。前提：三者有一个成立则成立，全部"
        "不成立则不成立，其余视情况而定。",
    )
    parts = (
        "clearhead.model.residual.placement:PostNorm",
        "clearhead.model.residual.placement:PreNorm",
        "clearhead.model.residual.deepnorm:DeepNorm",
    )
    references = (
        "Liu et al., 2020, arXiv:2004.08249 (Admin)",
        "Wang et al., 2022, arXiv:2203.00555 (DeepNet)",
        "Dong, Cordonnier and Loukas, 2021, arXiv:2103.03404",
        "Gromov et al., 2024, arXiv:2403.17887 (taking the last layers away)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=5):
            for layers in scale.pick(quick=(2, 4, 8), full=(2, 4, 8, 16, 24, 48)):
                yield {"part": "start", "layers": layers, "seed": seed}
        for seed in scale.seeds(quick=1, full=3):
            for layers in scale.pick(quick=(2, 4), full=(2, 6, 24)):
                for place in PLACES:
                    yield {
                        "part": "training",
                        "place": place,
                        "layers": layers,
                        "updates": scale.pick(quick=2, full=80),
                        "seed": seed,
                    }

    def measure(self, cell: Cell) -> Iterable[Row]:
        layers, seed = int(cell["layers"] or 0), int(cell["seed"] or 0)
        if cell["part"] == "start":
            return [{"place": place, **_start(place, layers, seed)} for place in (*PLACES, CONTROL)]
        return [_training(str(cell["place"]), layers, int(cell["updates"] or 0), seed)]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        trend = {place: _trend(rows, place) for place in PLACES}
        alike = {
            place: rows.mean("cosine", part="start", place=place, layers=_deepest(rows, "start")) for place in PLACES
        }
        worse = {place: _worse(rows, place) for place in PLACES}
        cost = {
            place: interval(rows.column("cut", part="training", place=place, layers=_deepest(rows, "training")))
            for place in PLACES
        }
        rising = sum(each > RISES for each in trend.values())
        collapse = Verdict.SUPPORTED if rising == len(trend) else Verdict.DEPENDS if rising else Verdict.REFUTED
        known = worse["post"].count > 1
        training = (
            (Verdict.DEPENDS if worse["deepnorm"].above else Verdict.SUPPORTED)
            if worse["post"].above
            else Verdict.REFUTED
        )
        training = training if known else Verdict.INCONCLUSIVE
        redundant = (
            Verdict.SUPPORTED
            if cost["pre"].high < CHEAP
            else Verdict.REFUTED
            if cost["pre"].low > CHEAP
            else Verdict.INCONCLUSIVE
        )
        three = (collapse, training, redundant)
        premise = (
            Verdict.SUPPORTED
            if Verdict.SUPPORTED in three
            else Verdict.REFUTED
            if set(three) == {Verdict.REFUTED}
            else Verdict.DEPENDS
        )
        middle, deepest = rows.where(part="training").distinct("layers")[-2:]
        return {
            "premise": Judgement(
                premise,
                Text(
                    en=f"Of the three below (tokens alike, training fails, last layers idle): {', '.join(each.value for each in three)}.",
                    zh=f"下列三条（词趋同、训练失败、末层无用）依次为：{'、'.join(ZH[each] for each in three)}。",
                ),
            ),
            "collapse": Judgement(
                collapse,
                Text(
                    en=f"Rank correlation of depth and the cosine between tokens (and the mean cosine at {_deepest(rows, 'start')} layers): "
                    f"{_listed(PLACES_EN, trend, alike)}.",
                    zh=f"词间余弦与深度的秩相关（括号内为 {_deepest(rows, 'start')} 层时的平均余弦）："
                    f"{_listed(PLACES_ZH, trend, alike).replace(' (', '（').replace(')', '）')}。",
                ),
            ),
            "training": Judgement(
                training,
                Text(
                    en=f"Loss at {deepest} minus at {middle} layers: post-norm {worse['post'].mean:+.3f}, pre-norm "
                    f"{worse['pre'].mean:+.3f}, DeepNorm {worse['deepnorm'].mean:+.3f} nats.",
                    zh=f"{deepest} 层与 {middle} 层的损失之差：后归一化 {worse['post'].mean:+.3f}，前归一化 "
                    f"{worse['pre'].mean:+.3f}，DeepNorm {worse['deepnorm'].mean:+.3f} 奈特。",
                ),
            ),
            "redundant": Judgement(
                redundant,
                Text(
                    en=f"Taking the last quarter of {deepest} layers changes the loss by {cost['pre'].mean:+.1%} in "
                    f"pre-norm ({cost['post'].mean:+.1%} in post-norm).",
                    zh=f"去掉 {deepest} 层的最后四分之一，前归一化的损失变化 {cost['pre'].mean:+.1%}（后归一化 "
                    f"{cost['post'].mean:+.1%}）。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        judged = self.judge(rows)
        deep = _deepest(rows, "start")
        slope = {place: _typical(rows, place, deep) for place in (*PLACES, CONTROL)}
        control = rows.mean("cosine", part="start", place=CONTROL, layers=deep)
        return Answer(
            short=Text(
                en=f"Three things are said to go wrong; whether they do depends on where the norm stands. "
                f"{judged['collapse'].evidence.en} {judged['training'].evidence.en} {judged['redundant'].evidence.en}",
                zh=f"常说的问题有三类，是否出现取决于归一化的位置。"
                f"{judged['collapse'].evidence.zh}{judged['training'].evidence.zh}{judged['redundant'].evidence.zh}",
            ),
            imprecise=Text(
                en=f"Depth as such is not the fault. Without shortcuts tokens reach a cosine of {control:.2f} at "
                f"{deep} layers; the gradient of the first block over that of the last is then {slope[CONTROL]:.1g}, "
                f"with post-norm {slope['post']:.2g}, pre-norm {slope['pre']:.2g}, DeepNorm {slope['deepnorm']:.2g}.",
                zh=f"问题不在深度本身。没有捷径时，{deep} 层的词间余弦达到 {control:.2f}；此时首块与末块梯度之比为 "
                f"{slope[CONTROL]:.1g}，后归一化 {slope['post']:.2g}，前归一化 {slope['pre']:.2g}，DeepNorm "
                f"{slope['deepnorm']:.2g}。",
            ),
            limits=Text(
                en=f"Decoders of width 32 on a Markov chain, {rows.where(part='training').distinct('updates')[0]} "
                f"updates with a short warm-up at one rate, {len(rows.where(part='training').distinct('seed'))} "
                f"seed(s). Overfitting of deep models on little data, cost and latency were not measured.",
                zh=f"宽 32 的解码器，马尔可夫链，短预热、单一学习率、"
                f"{rows.where(part='training').distinct('updates')[0]} 次更新，"
                f"{len(rows.where(part='training').distinct('seed'))} 个种子。没有测量深模型在小数据上的过拟合、成本"
                f"与延迟。",
            ),
            caption=Text(
                en="Left: likeness of tokens after the last block at the start. Middle: gradient of the first over "
                "the last block. Right: loss after the same training.",
                zh="左：训练开始时末块之后各词的相似程度。中：首块与末块梯度之比。右：同样训练之后的损失。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (likeness, gradients, losses) = panels(3, width=3.9, height=3.6)
        depths = rows.where(part="start").distinct("layers")
        for place, (name, shown) in enumerate({**PLACES, CONTROL: "no shortcuts"}.items()):
            line(
                likeness,
                depths,
                [interval(rows.column("cosine", part="start", place=name, layers=each)) for each in depths],
                shown,
                place,
            )
            line(gradients, depths, [_typical(rows, name, each) for each in depths], shown, place)
        trained = rows.where(part="training").distinct("layers")
        for place, (name, shown) in enumerate(PLACES.items()):
            line(
                losses,
                trained,
                [interval(rows.column("excess", part="training", place=name, layers=each)) for each in trained],
                shown,
                place,
            )
        gradients.set_yscale("log")
        label(likeness, x="layers", y="mean cosine between tokens", title="at the start")
        label(gradients, x="layers", y="gradient of first / last block", title="at the start")
        label(losses, x="layers", y="loss above entropy rate (nats per token)", title="after training")
        for axes in (likeness, gradients, losses):
            axes.legend(fontsize=7)
        return figure


PLACES_EN = {**PLACES, "and": ", "}
PLACES_ZH = {"and": "，", "post": "后归一化", "pre": "前归一化", "deepnorm": "DeepNorm"}
ZH = {
    Verdict.SUPPORTED: "成立",
    Verdict.REFUTED: "不成立",
    Verdict.DEPENDS: "视情况而定",
    Verdict.INCONCLUSIVE: "尚无定论",
}


def _start(place: str, layers: int, seed: int) -> Row:
    """Likeness of tokens and share of the stream that differs between them, and gradients, in a new model."""
    text = task("markov", {"length": 16})
    model = build(decoder(text.vocab, {"decoder_layers": layers, "residual": place}), seed)
    samples = examples(text, 8, seed, "start")
    with recording(model, EVERYTHING) as record:
        loss_of(logits(model, samples), samples.labels).backward()  # type: ignore[no-untyped-call]
    hidden = record[f"decoder.blocks.{layers - 1}"]  # (batch, length, d_model)
    own = hidden - hidden.mean(dim=1, keepdim=True)
    first, last = (_gradient(model, each) for each in (0, layers - 1))
    return {"cosine": _cosine(hidden), "rank_ratio": own.norm() / hidden.norm(), "ratio": first / last}


def _cosine(hidden: Tensor) -> float:
    """The mean over pairs of different tokens of a text."""
    unit = F.normalize(hidden, dim=-1)
    length = hidden.shape[1]
    alike = unit @ unit.transpose(1, 2)  # (batch, length, length)
    return float((alike.sum(dim=(1, 2)) - length).mean() / (length * (length - 1)))


def _gradient(model: Transformer, block: int) -> float:
    parameters = model.get_submodule(f"decoder.blocks.{block}.feedforward").parameters()
    return float(torch.cat([each.grad.flatten() for each in parameters if each.grad is not None]).norm()) + 1e-45


def _training(place: str, layers: int, updates: int, seed: int) -> Row:
    text = task("markov", {"length": 16})
    model = build(decoder(text.vocab, {"decoder_layers": layers, "residual": place}), seed)
    plan = Plan(updates=updates, batch=8, rate=2e-3, warmup=updates // 10)
    for _ in train(model, text, plan, seed):
        pass
    samples = examples(text, 128, seed, "score")
    with torch.no_grad():
        whole = float(loss_of(logits(model.eval(), samples), samples.labels))
        model.decoder.blocks = nn.ModuleList(list(model.decoder.blocks)[: layers - max(1, layers // 4)])  # type: ignore[arg-type]
        less = float(loss_of(logits(model, samples), samples.labels))
    return {"excess": whole - (text.best or 0.0), "cut": less / whole - 1}


def _deepest(rows: Rows, part: str) -> int:
    return int(max(rows.where(part=part).distinct("layers")))


def _trend(rows: Rows, place: str) -> float:
    """Rank correlation of depth and the mean cosine over seeds."""
    own = rows.where(part="start", place=place)
    depths = own.distinct("layers")
    return spearman(depths, [own.mean("cosine", layers=each) for each in depths])


def _typical(rows: Rows, place: str, layers: int) -> float:
    """The geometric mean of the gradients' ratio."""
    return float(np.exp(np.mean(np.log(rows.column("ratio", part="start", place=place, layers=layers)))))


def _worse(rows: Rows, place: str) -> Interval:
    """Loss at the largest depth minus loss at the one before, paired by seed."""
    own = rows.where(part="training", place=place)
    middle, deepest = own.distinct("layers")[-2:]
    return interval(own.paired("excess", {"layers": deepest}, {"layers": middle}))


def _listed(names: Mapping[str, str], trend: Mapping[str, float], alike: Mapping[str, float]) -> str:
    return names["and"].join(
        f"{name} {trend[place]:.2f} ({alike[place]:.2f})" for place, name in names.items() if place in trend
    )
