"""Where does the norm stand, and what does that change in gradients, warm-up and quality?"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clearhead.lab.pictures import label, line, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, exponent, interval
from clearhead.lab.training import Plan, build, decoder, encoder, examples, logits, loss_of, task, train
from clearhead.model.cache import NO_CACHE
from clearhead.model.forward_pass import Pass
from clearhead.model.mask import OPEN

EXACT = 1e-10  # largest difference to torch's layer, float64
DEPTHS = (2, 4, 8, 16, 32)
RATES = (1e-3, 4e-3, 1.6e-2)
LAYERS = 6  # of the trained models
PLACES: Mapping[str, Mapping[str, Any]] = {
    "post": {"residual": "post"},
    "pre": {"residual": "pre"},
    "no norm": {"residual": "pre", "norm": "none"},
}


@QUESTIONS.register("prenorm-vs-postnorm")
class PrenormVsPostnorm(Question):
    """Equality with torch's layers, gradients at the start by depth, training with and without warm-up."""

    topic = "norm-residual"
    title = Text(
        en="Does the norm stand after the addition or before the sub-layer, and what changes with its place?",
        zh="归一化放在相加之后还是子层之前？这对梯度、预热需求和最终效果有何影响？",
    )
    sources = (Source("000", "7"), Source("000", "12"), Source("002", "1.3"), Source("003", "I.7"))
    claims = (
        Claim(
            "helps",
            Text(
                en="LayerNorm stands at the input or output of each sub-layer and makes training stable and fast.",
                zh="层归一化放在每个子层的输入或输出处，使训练稳定且快速。",
            ),
            Source("000", "12"),
            note=Text(
                en="Both places exist, but they are not the same model.", zh="两种位置都存在，但并不是同一个模型。"
            ),
        ),
        Claim(
            "after",
            Text(
                en="After attention comes the addition of the shortcut, and then LayerNorm.",
                zh="注意力之后先做残差相加，再做层归一化。",
            ),
            Source("002", "1.3"),
            note=Text(
                en="That is the design of 2017; most later models norm before the sub-layer.",
                zh="这是 2017 年的设计；后来的模型大多在子层之前归一化。",
            ),
        ),
    )
    prediction = Text(
        en="The gradient of the last feed-forward network does not depend on depth in post-norm (exponent near 0) and "
        "falls like depth^-0.5 in pre-norm. Without warm-up post-norm loses more than pre-norm at the larger rates. "
        "Both learn better than no norm.",
        zh="最后一个前馈网络的梯度：后归一化与深度无关（指数约为 0），前归一化按深度的 -0.5 次方下降。不预热时，较大学"
        "习率下后归一化受损更多。两者都优于不归一化。",
    )
    criterion = Text(
        en="after: depends if our post-norm block equals torch's layer with norm_first false and our pre-norm block "
        "the one with norm_first true within 1e-10, and exchanging them differs by more than 1e-3; supported if only "
        "post-norm is matched. helps (6 layers, rate best on average of three, with warm-up): supported if both "
        "places end with less loss than no norm, paired intervals; refuted if neither does; depends if one does. "
        "Extra, not a claim: places differ at the start if the intervals of their exponents do not overlap; "
        "post-norm needs warm-up if its loss averaged over the rates rises without it (interval) and by more than "
        "that of pre-norm.",
        zh="顺序：我们的后归一化块与 norm_first 为假的 torch 层相差不超过 1e-10，前归一化块与 norm_first 为真的层同样"
        "相等，且互换后相差超过 1e-3，则视情况而定；只有后归一化能对上则成立。作用（6 层、预热、取三个学习率中平均最"
        "好的）：两种位置的损失都低于无归一化（配对区间）则成立，都不低则不成立，只有一种低则视情况而定。附加（不是论"
        "断）：指数区间不重叠则两者初始梯度不同；后归一化去掉预热后、各学习率平均损失上升（区间）且升幅大于前归一化，"
        "则它需要预热。",
    )
    parts = ("clearhead.model.residual.placement:PostNorm", "clearhead.model.residual.placement:PreNorm")
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.1",
        "Xiong et al., 2020, arXiv:2002.04745, sections 3.2 and 3.3, theorem 1",
        "Wang et al., 2019, arXiv:1906.01787",
        "Liu et al., 2020, arXiv:2004.08249 (Admin)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        yield {"part": "torch"}
        for seed in scale.seeds(quick=2, full=20):
            yield {"part": "start", "deepest": scale.pick(quick=8, full=32), "seed": seed}
        for seed in scale.seeds(quick=1, full=6):
            for place in PLACES:
                for warmup in (True, False):
                    for rate in scale.pick(quick=RATES[1:2], full=RATES):
                        updates = scale.pick(quick=5, full=100)
                        yield {
                            "part": "training",
                            "place": place,
                            "warm": warmup,
                            "rate": rate,
                            "updates": updates,
                            "seed": seed,
                        }

    def measure(self, cell: Cell) -> Iterable[Row]:
        if cell["part"] == "torch":
            return [_against_torch()]
        seed = int(cell["seed"] or 0)
        if cell["part"] == "start":
            depths = [each for each in DEPTHS if each <= int(cell["deepest"] or 0)]
            return [
                {"place": place, "layers": each, "gradient": _gradient(place, each, seed)}
                for place in ("post", "pre")
                for each in depths
            ]
        updates, warm = int(cell["updates"] or 0), bool(cell["warm"])
        plan = Plan(
            updates=updates, batch=16, rate=float(cell["rate"] or 0), warmup=updates // 4 if warm else 0, clip=1e9
        )
        text = task("markov", {"length": 16})
        model = build(decoder(text.vocab, {"decoder_layers": LAYERS, **PLACES[str(cell["place"])]}), seed)
        losses = [step.loss for step in train(model, text, plan, seed)]
        last = float(np.mean(losses[-10:])) - (text.best or 0.0)
        broken = not np.isfinite(losses[-1]) or last > losses[0]
        return [{"excess": min(last, 10.0) if np.isfinite(last) else 10.0, "broken": broken}]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        torch_ = next(iter(rows.where(part="torch")))
        same, crossed = (float(torch_["post"] or 0), float(torch_["pre"] or 0)), float(torch_["exchanged"] or 0)
        gains = {place: _gain(rows, place) for place in ("post", "pre")}
        better = sum(each.above for each in gains.values())
        known = all(each.count > 1 for each in gains.values())
        helps = (Verdict.REFUTED, Verdict.DEPENDS, Verdict.SUPPORTED)[better] if known else Verdict.INCONCLUSIVE
        after = (
            Verdict.DEPENDS
            if max(same) <= EXACT and crossed > 1e-3
            else Verdict.SUPPORTED
            if same[0] <= EXACT
            else Verdict.REFUTED
        )
        return {
            "helps": Judgement(
                helps,
                Text(
                    en=f"Loss without norm minus with, at {LAYERS} layers: post-norm {gains['post'].mean:.3f}, "
                    f"pre-norm {gains['pre'].mean:.3f} nats; {better} of 2 surely above 0.",
                    zh=f"{LAYERS} 层时，无归一化的损失减去有归一化的损失：后归一化 {gains['post'].mean:.3f}，前归一化 "
                    f"{gains['pre'].mean:.3f} 奈特；两者中有 {better} 个确定大于 0。",
                ),
            ),
            "after": Judgement(
                after,
                Text(
                    en=f"Difference to torch's layer: post-norm {same[0]:.1g}, pre-norm {same[1]:.1g}; exchanged "
                    f"{crossed:.2g}.",
                    zh=f"与 torch 层之差：后归一化 {same[0]:.1g}，前归一化 {same[1]:.1g}；互换后 {crossed:.2g}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        powers = {place: _exponent(rows, place) for place in ("post", "pre")}
        apart = powers["pre"].high < powers["post"].low or powers["post"].high < powers["pre"].low
        needs = {place: _cold(rows, place) for place in ("post", "pre")}
        broken = {place: rows.mean("broken", part="training", place=place, warm=False) for place in PLACES}
        needed = needs["post"].above and needs["post"].mean > needs["pre"].mean
        losses = {
            place: rows.mean("excess", part="training", place=place, warm=True, rate=_best_rate(rows, place))
            for place in PLACES
        }
        return Answer(
            short=Text(
                en=f"Both exist, and they are two different models. At the start the gradient of the last "
                f"feed-forward network goes like depth^{powers['post'].mean:.2f} in post-norm and "
                f"depth^{powers['pre'].mean:.2f} in pre-norm ({'' if apart else 'not '}clearly different). Leaving "
                f"warm-up out changes the loss of post-norm by {round(needs['post'].mean, 2) + 0.0:+.2f} and that of pre-norm by "
                f"{round(needs['pre'].mean, 2) + 0.0:+.2f} nats on average of the rates"
                + (
                    ", so here post-norm needs it more."
                    if needed
                    else "; a special need of post-norm is not shown here."
                ),
                zh=f"两种都有，而且是两个不同的模型。训练开始时，最后一个前馈网络的梯度，后归一化随深度的 "
                f"{powers['post'].mean:.2f} 次方变化，前归一化随深度的 {powers['pre'].mean:.2f} 次方变化（"
                f"{'' if apart else '不'}能明确区分）。去掉预热，各学习率平均，后归一化的损失变化 "
                f"{round(needs['post'].mean, 2) + 0.0:+.2f} 奈特，前归一化变化 {round(needs['pre'].mean, 2) + 0.0:+.2f} 奈特"
                + ("，可见这里后归一化更需要预热。" if needed else "；这里看不出后归一化特别需要预热。"),
            ),
            imprecise=Text(
                en="'At the input or the output' reads as if the place did not matter. Pre-norm leaves the shortcut "
                "an identity and needs one more norm at the end of the stack; post-norm puts a norm on the shortcut "
                "itself.",
                zh="“输入或输出处”读来好像位置无关紧要。前归一化让捷径保持恒等，栈的末尾还要再加一个归一化；后归一化则"
                "把归一化放在捷径上。",
            ),
            limits=Text(
                en=f"Width 32; gradients with {len(rows.where(part='start').distinct('seed'))} seeds; training of "
                f"{LAYERS} layers on a Markov chain, {rows.where(part='training').distinct('updates')[0]} updates, "
                f"{len(rows.where(part='training').distinct('seed'))} seed(s). Best loss above the entropy rate: "
                f"post-norm {losses['post']:.3f}, pre-norm {losses['pre']:.3f}, no norm {losses['no norm']:.3f} "
                f"nats. Runs without warm-up that end worse than they began: {broken['post']:.0%}, "
                f"{broken['pre']:.0%}, {broken['no norm']:.0%}.",
                zh=f"宽 32；梯度用 {len(rows.where(part='start').distinct('seed'))} 个种子；训练为 {LAYERS} 层、马尔可"
                f"夫链、{rows.where(part='training').distinct('updates')[0]} 次更新、"
                f"{len(rows.where(part='training').distinct('seed'))} 个种子。高出熵率的最好损失：后归一化 "
                f"{losses['post']:.3f}，前归一化 {losses['pre']:.3f}，无归一化 {losses['no norm']:.3f} 奈特。不预热时"
                f"越训越差的比例：{broken['post']:.0%}、{broken['pre']:.0%}、{broken['no norm']:.0%}。",
            ),
            caption=Text(
                en="Left: gradient of the last feed-forward network at the start, by depth. Right: loss by peak "
                "learning rate, with and without warm-up.",
                zh="左：训练开始时最后一个前馈网络的梯度随深度的变化。右：有无预热时，损失随峰值学习率的变化。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (start, learned) = panels(2, height=3.8)
        depths = rows.where(part="start").distinct("layers")
        for place, name in enumerate(("post", "pre")):
            line(
                start,
                depths,
                [interval(rows.column("gradient", part="start", place=name, layers=each)) for each in depths],
                f"{name}-norm",
                place,
            )
        rates = rows.where(part="training").distinct("rate")
        for place, name in enumerate(PLACES):
            for warm in (True, False):
                values = [rows.mean("excess", part="training", place=name, warm=warm, rate=each) for each in rates]
                line(learned, rates, values, f"{name}, {'warm-up' if warm else 'no warm-up'}", place)
                learned.lines[-1].set_linestyle("-" if warm else ":")
        start.set_xscale("log", base=2)
        for axes in (start, learned):
            axes.set_yscale("log")
            axes.legend(fontsize=7)
        learned.set_xscale("log")
        label(start, x="layers", y="norm of the gradient of the last W_1", title="at the start")
        label(
            learned,
            x="peak learning rate",
            y="loss above entropy rate (nats per token)",
            title=f"after training, {LAYERS} layers",
        )
        return figure


def _against_torch() -> Row:
    """Largest differences between our blocks and torch's layers, and between a block and the other kind."""
    hidden = torch.randn(3, 7, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = {place: _block(place, hidden) for place in ("post", "pre")}
    theirs = {place: _torch_layer(place, hidden) for place in ("post", "pre")}
    found = {place: float((ours[place] - theirs[place]).abs().max()) for place in ours}
    return {**found, "exchanged": float((ours["post"] - theirs["pre"]).abs().max())}


def _parts(place: str) -> nn.Module:
    model = build(encoder(11, {"residual": place, "encoder_layers": 1}), 0).double()
    return model.get_submodule("encoder.blocks.0")


@torch.no_grad()
def _block(place: str, hidden: Tensor) -> Tensor:
    output: Tensor = _parts(place)(hidden, Pass(torch.arange(hidden.shape[1])[None], OPEN), None, NO_CACHE.layer(0))
    return output


@torch.no_grad()
def _torch_layer(place: str, hidden: Tensor) -> Tensor:
    """torch's layer with the weights of our block; both name the same matrices in the same order."""
    layer = (
        nn.TransformerEncoderLayer(32, 4, 128, dropout=0.0, batch_first=True, norm_first=place == "pre")
        .double()
        .train()
    )
    own = dict(_parts(place).named_parameters())
    names = {
        "self_attn.in_proj_": "attention.projections.",
        "self_attn.out_proj.": "attention.output.",
        "linear1.": "feedforward.inner.",
        "linear2.": "feedforward.outer.",
        "norm1.": "attention_residual.norm.",
        "norm2.": "feedforward_residual.norm.",
    }
    layer.load_state_dict(
        {f"{theirs}{kind}": own[f"{ours}{kind}"] for theirs, ours in names.items() for kind in ("weight", "bias")}
    )
    output: Tensor = layer(hidden)
    return output


def _gradient(place: str, layers: int, seed: int) -> float:
    """Gradient norm of the last feed-forward network's first matrix in a new model."""
    text = task("markov", {"length": 8})
    model = build(decoder(text.vocab, {"decoder_layers": layers, "residual": place}), seed)
    samples = examples(text, 8, seed, "start")
    loss_of(logits(model, samples), samples.labels).backward()  # type: ignore[no-untyped-call]
    gradient = model.get_parameter(f"decoder.blocks.{layers - 1}.feedforward.inner.weight").grad
    assert gradient is not None
    return float(gradient.norm())


def _exponent(rows: Rows, place: str) -> Interval:
    own = rows.where(part="start", place=place)
    return exponent(own.column("layers"), own.column("gradient"))


def _best_rate(rows: Rows, place: str) -> float:
    """With warm-up, on average of the seeds; the same number of rates is tried for all."""
    own = rows.where(part="training", place=place, warm=True)
    return float(min(own.distinct("rate"), key=lambda rate: own.mean("excess", rate=rate)))


def _best_setting(rows: Rows, place: str) -> Cell:
    return {"place": place, "warm": True, "rate": _best_rate(rows, place)}


def _gain(rows: Rows, place: str) -> Interval:
    """Loss without norm minus loss with, each at its best rate, paired by seed."""
    left, right = (_best_setting(rows, each) for each in ("no norm", place))
    return interval(rows.where(part="training").paired("excess", left, right))


def _cold(rows: Rows, place: str) -> Interval:
    """What leaving warm-up out costs, averaged over the rates, by seed."""
    own = rows.where(part="training", place=place)
    costs = [
        own.mean("excess", warm=False, seed=seed) - own.mean("excess", warm=True, seed=seed)
        for seed in own.distinct("seed")
    ]
    return interval(costs)
