"""Does batch normalisation work by less covariate shift, by a smoother loss, or by avoiding saturation?"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clearhead.core.registry import Choice
from clearhead.lab.parts.digits import Pictures, perceptron, pictures
from clearhead.lab.pictures import grouped, label, line, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval

LAYERS, WIDTH, BATCH, RATE = 6, 48, 64, 2e-3
NORMS_ON_TRIAL = {"none": "plain", "batchnorm": "BatchNorm", "noisy_batchnorm": "noisy BatchNorm"}
ACTIVATIONS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU}
GAINS = (1.0, 16.0)  # of the initial weights, when saturation is measured
CASES = tuple((activation, gain) for activation in ACTIVATIONS for gain in GAINS)
EVERY = 10  # updates between two looks
AS_FAST = 1.2  # times BatchNorm's mean loss
PRESENT = 0.1  # share of saturated units without norm from which on there is something to relieve
FLAT = 0.1  # of the largest derivative: below it a unit counts as saturated


@QUESTIONS.register("batchnorm-covariate-shift")
class BatchnormCovariateShift(Question):
    """Plain, normalised, and normalised with the shift put back in (Santurkar et al., 2018), in small."""

    topic = "norm-residual"
    title = Text(
        en="Does BatchNorm work by removing covariate shift, by smoothing the loss, or by avoiding saturation?",
        zh="批归一化有效，是因为减少内部协变量偏移、使损失曲面更平滑，还是避免激活饱和？",
    )
    sources = (Source("000", "13"), Source("002", "1.3(2)1)"), Source("002", "1.3(2)1)①"), Source("002", "1.3(2)1)②"))
    claims = (
        Claim(
            "shift",
            Text(
                en="BatchNorm works because it reduces internal covariate shift.",
                zh="批归一化有效，是因为减少了内部协变量偏移。",
            ),
            Source("000", "13"),
            note=Text(
                en="On trial is the cause, not whether the shift becomes smaller.",
                zh="这里检验的是因果关系，而不只是偏移是否变小。",
            ),
        ),
        Claim(
            "smooth",
            Text(
                en="BatchNorm makes the loss surface smoother, and so training faster.",
                zh="批归一化使损失曲面更平滑，从而加快收敛。",
            ),
            Source("002", "1.3(2)1)①"),
        ),
        Claim(
            "saturation",
            Text(en="BatchNorm relieves the saturation of gradients.", zh="批归一化缓解梯度饱和。"),
            Source("002", "1.3(2)1)②"),
            note=Text(en="Only some activations saturate.", zh="只有部分激活函数会饱和。"),
        ),
    )
    prediction = Text(
        en="With random shifts put in after it BatchNorm still trains faster than the plain network, so the shift is "
        "not the cause. Gradients change less from step to step with BatchNorm. It relieves saturation only of "
        "sigmoids with large weights.",
        zh="在批归一化之后加入随机偏移，训练仍快于普通网络，可见偏移不是原因。使用批归一化时，梯度在相邻两步之间变化更"
        "小。只有权重较大的 sigmoid 网络，饱和才得到缓解。",
    )
    criterion = Text(
        en="shift: for an activation the cause is refuted if noisy BatchNorm shifts the inputs of a middle layer more "
        "than the plain network does, has less mean training loss (both paired intervals) and at most 1.2 times "
        "BatchNorm's; refuted if so for both activations, depends if for one; supported if BatchNorm shifts less and "
        "noisy BatchNorm has surely more loss than plain for both; else inconclusive. smooth: the change of the "
        "gradient by a step, as a share of it, is lower with BatchNorm (paired interval): for both supported, for "
        "one depends, else refuted. saturation at the start, for sigmoid and ReLU with weights of 1 and 16 times the "
        "usual size: of the cases in which over 10 % of the units have less than a tenth of the largest derivative "
        "without norm, BatchNorm lowers that share by over 5 points (interval): in all supported, in some depends, "
        "in none refuted; no such case: inconclusive.",
        zh="偏移：某激活函数下，若带噪批归一化使中间层输入的偏移大于普通网络，而平均训练损失更低（均为配对区间），且不"
        "超过批归一化的 1.2 倍，则否定因果；两种激活函数都如此则不成立，一种如此则视情况而定；若批归一化偏移更小且带"
        "噪时损失确定高于普通网络（两种皆然），则成立；其余尚无定论。平滑：一步更新引起的梯度相对变化在批归一化下更小"
        "（配对区间），两种都如此则成立，一种则视情况而定，否则不成立。饱和（训练开始时，sigmoid 与 ReLU，权重为通常"
        "的 1 倍与 16 倍）：先看无归一化时导数不到最大值十分之一的单元占 10% 以上的情形，其中批归一化使该占比下降 5 "
        "个百分点以上（区间）者，全部如此则成立，部分如此则视情况而定，都不如此则不成立；没有这样的情形则尚无定论。",
    )
    parts = ("clearhead.model.norm.batchnorm:BatchNorm", "clearhead.model.norm.batchnorm:NoisyBatchNorm")
    references = (
        "Ioffe and Szegedy, 2015, arXiv:1502.03167, section 2",
        "Santurkar et al., 2018, arXiv:1805.11604, sections 2 and 3",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=5):
            yield {"part": "start", "seed": seed}
            for activation in ACTIVATIONS:
                for norm in NORMS_ON_TRIAL:
                    yield {
                        "part": "training",
                        "activation": activation,
                        "norm": norm,
                        "updates": scale.pick(quick=10, full=200),
                        "seed": seed,
                    }

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        if cell["part"] == "start":
            return [
                {
                    "activation": activation,
                    "norm": norm,
                    "gain": gain,
                    "saturated": _saturated(activation, norm, gain, seed),
                }
                for activation in ACTIVATIONS
                for norm in ("none", "batchnorm")
                for gain in GAINS
            ]
        return _training(str(cell["activation"]), str(cell["norm"]), int(cell["updates"] or 0), seed)

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        freed = [_not_the_cause(rows, each) for each in ACTIVATIONS]
        caused = [_cause(rows, each) for each in ACTIVATIONS]
        shift = (
            Verdict.REFUTED
            if all(freed)
            else Verdict.DEPENDS
            if any(freed)
            else Verdict.SUPPORTED
            if all(caused)
            else Verdict.INCONCLUSIVE
        )
        calm = {each: _difference(rows, each, "batchnorm", "none", "gradient_change") for each in ACTIVATIONS}
        relief = [_relief(rows, *each) for each in CASES if _without(rows, *each) > PRESENT]
        known = calm["relu"].count > 1
        saturation = _count([each.low > 0.05 for each in relief]) if relief else Verdict.INCONCLUSIVE
        listed = ", ".join(
            f"{_without(rows, *each):.0%} → {_without(rows, *each) - _relief(rows, *each).mean:.0%}" for each in CASES
        )
        losses = {each: [_mean(rows, each, norm, "loss") for norm in NORMS_ON_TRIAL] for each in ACTIVATIONS}
        shifts = {each: [_mean(rows, each, norm, "shift") for norm in NORMS_ON_TRIAL] for each in ACTIVATIONS}
        told = {
            each: ", ".join(f"{loss:.2f} ({moved:.2g})" for loss, moved in zip(losses[each], shifts[each], strict=True))
            for each in ACTIVATIONS
        }
        told_zh = {each: text.replace(", ", "、").replace(" (", "（").replace(")", "）") for each, text in told.items()}
        return {
            "shift": Judgement(
                shift,
                Text(
                    en=f"Mean training loss in nats (and shift of a middle layer) of plain, BatchNorm, noisy BatchNorm: "
                    f"sigmoid {told['sigmoid']}; ReLU {told['relu']}.",
                    zh=f"平均训练损失（奈特；括号内为中间层的偏移），依次为普通、批归一化、带噪批归一化：sigmoid "
                    f"{told_zh['sigmoid']}；ReLU {told_zh['relu']}。",
                ),
            ),
            "smooth": Judgement(
                _count([each.below for each in calm.values()]) if known else Verdict.INCONCLUSIVE,
                Text(
                    en=f"Relative change of the gradient by a step, BatchNorm minus plain (below 0 is smoother): sigmoid "
                    f"{calm['sigmoid'].mean:+.2f}, ReLU {calm['relu'].mean:+.2f}.",
                    zh=f"一步更新引起的梯度相对变化，批归一化减普通（负值表示更平滑）：sigmoid {calm['sigmoid'].mean:+.2f}，ReLU "
                    f"{calm['relu'].mean:+.2f}。",
                ),
            ),
            "saturation": Judgement(
                saturation if known else Verdict.INCONCLUSIVE,
                Text(
                    en=f"Share of saturated units without norm → with BatchNorm, sigmoid then ReLU, usual then large "
                    f"weights: {listed}.",
                    zh=f"饱和单元的占比，无归一化 → 有批归一化，依次为 sigmoid（通常权重、大权重）、ReLU（通常、大）："
                    f"{listed.replace(', ', '，')}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        judged = self.judge(rows)
        words = {
            Verdict.REFUTED: ("is not what it works by here", "在这里不是它起作用的原因"),
            Verdict.SUPPORTED: ("agrees with what is seen here", "与这里的结果相符"),
            Verdict.DEPENDS: ("can be the reason in some of the networks at most", "最多只是其中一部分网络的原因"),
            Verdict.INCONCLUSIVE: ("is neither shown nor excluded here", "在这里既未证实也未排除"),
        }[judged["shift"].verdict]
        seeds = len(rows.where(part="training").distinct("seed"))
        return Answer(
            short=Text(
                en=f"Less covariate shift {words[0]}. {judged['shift'].evidence.en} {judged['smooth'].evidence.en} "
                f"{judged['saturation'].evidence.en}",
                zh=f"“减少协变量偏移”{words[1]}。"
                f"{judged['shift'].evidence.zh}{judged['smooth'].evidence.zh}{judged['saturation'].evidence.zh}",
            ),
            imprecise=Text(
                en="That a norm changes a quantity does not make the quantity the cause; noise that puts the shift "
                "back shows which it is. Saturation must be stated with an activation and a size of weights.",
                zh="归一化改变了某个量，并不说明这个量就是原因；把偏移用噪声加回去，才能区分两者。谈饱和必须说明激活函"
                "数和权重大小。",
            ),
            limits=Text(
                en=f"{LAYERS} hidden layers of width {WIDTH}, digits of 8 x 8 pixels, Adam at one rate, {seeds} seed(s). "
                f"The shift is that of the mean of a middle layer's inputs, in a step, as a share of their root mean "
                f"square; noisy BatchNorm adds a random shift and scale at each step. The landscape is looked at along the steps taken only.",
                zh=f"{LAYERS} 个宽 {WIDTH} 的隐层，8×8 像素的数字，Adam 单一学习率，{seeds} 个种子。偏移指中间层输入均"
                f"值每步的变化，以输入的均方根为单位；带噪批归一化在每步加入随机的平移与缩放。曲面只沿实际走过的步来看。",
            ),
            caption=Text(
                en="Left and middle: training loss with sigmoid and with ReLU. Right: shift of a middle layer's "
                "inputs in one step.",
                zh="左、中：sigmoid 与 ReLU 网络的训练损失。右：中间层输入在一步之内的偏移。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (*curves, shifts) = panels(3, width=3.9, height=3.6)
        for axes, activation in zip(curves, ACTIVATIONS, strict=True):
            for place, (norm, name) in enumerate(NORMS_ON_TRIAL.items()):
                own = rows.where(part="training", activation=activation, norm=norm)
                steps = own.distinct("update")
                line(axes, steps, [interval(own.column("loss", update=each)) for each in steps], name, place)
            axes.legend(fontsize=7)
            label(axes, x="updates", y="training loss (nats per picture)", title=activation)
        series = {
            name: [interval(_by_seed(rows, activation, norm, "shift")) for activation in ACTIVATIONS]
            for norm, name in NORMS_ON_TRIAL.items()
        }
        grouped(shifts, list(ACTIVATIONS), series)
        shifts.set_yscale("log")
        label(shifts, x="activation", y="shift in a step (share of the inputs' size)")
        return figure


class _Seen(NamedTuple):
    """What a network shows on a batch."""

    gradient: Tensor  # of all parameters, flat
    inputs: Tensor  # of a middle layer, (batch, width)


def _look(network: nn.Sequential, batch: Pictures) -> _Seen:
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(batch.loss(network), parameters)
    inputs = network[: 3 * (LAYERS // 2)](batch.pixels).detach()
    return _Seen(torch.cat([each.flatten() for each in gradients]), inputs)


def _training(activation: str, norm: str, updates: int, seed: int) -> list[Row]:
    """Losses, and now and then what one update changes."""
    learning = pictures(seed)[0]
    network = perceptron(Choice(kind=norm), ACTIVATIONS[activation], [WIDTH] * LAYERS, seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(seed)
    rows: list[Row] = []
    losses: list[float] = []
    for update in range(1, updates + 1):
        batch, looked = learning.batch(BATCH, generator), update % EVERY == 0
        before = _look(network, batch) if looked else None
        optimizer.zero_grad(set_to_none=True)
        loss = batch.loss(network)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        if before is not None:
            rows.append(
                {"update": update, "loss": float(np.mean(losses[-EVERY:])), **_changes(before, _look(network, batch))}
            )
    return rows


def _changes(before: _Seen, after: _Seen) -> Row:
    moved = after.inputs.mean(dim=0) - before.inputs.mean(dim=0)  # (width,)
    return {
        "shift": (moved.square().mean() / before.inputs.square().mean()).sqrt(),
        "gradient_change": (after.gradient - before.gradient).norm() / before.gradient.norm(),
    }


def _saturated(activation: str, norm: str, gain: float, seed: int) -> float:
    """Share of the hidden units' derivatives, over pictures, that are below a tenth of the largest there is."""
    network = perceptron(Choice(kind=norm), ACTIVATIONS[activation], [WIDTH] * LAYERS, seed)
    flat: list[Tensor] = []
    hidden = pictures(seed)[0].pixels
    for layer in list(network)[:-1]:
        if isinstance(layer, nn.Linear):
            layer.weight.data.mul_(gain)
        if isinstance(layer, nn.Sigmoid | nn.ReLU):
            start = hidden.detach().requires_grad_()
            (derivative,) = torch.autograd.grad(layer(start).sum(), start)
            flat.append(derivative < FLAT * (0.25 if activation == "sigmoid" else 1.0))
        hidden = layer(hidden).detach()
    return float(torch.stack(flat).float().mean())


def _by_seed(rows: Rows, activation: str, norm: str, column: str) -> list[float]:
    """The mean over the run, for each seed."""
    own = rows.where(part="training", activation=activation, norm=norm)
    return [own.mean(column, seed=seed) for seed in own.distinct("seed")]


def _mean(rows: Rows, activation: str, norm: str, column: str) -> float:
    return float(np.mean(_by_seed(rows, activation, norm, column)))


def _difference(rows: Rows, activation: str, left: str, right: str, column: str) -> Interval:
    pairs = zip(_by_seed(rows, activation, left, column), _by_seed(rows, activation, right, column), strict=True)
    return interval([one - other for one, other in pairs])


def _not_the_cause(rows: Rows, activation: str) -> bool:
    """Noisy BatchNorm shifts more than plain, learns faster than plain, and nearly as fast as BatchNorm."""
    more = _difference(rows, activation, "noisy_batchnorm", "none", "shift").above
    faster = _difference(rows, activation, "noisy_batchnorm", "none", "loss").below
    return (
        more
        and faster
        and _mean(rows, activation, "noisy_batchnorm", "loss") <= AS_FAST * _mean(rows, activation, "batchnorm", "loss")
    )


def _cause(rows: Rows, activation: str) -> bool:
    """BatchNorm shifts less than plain, and with the shift put back nothing is left of its gain."""
    return (
        _difference(rows, activation, "batchnorm", "none", "shift").below
        and _difference(rows, activation, "noisy_batchnorm", "none", "loss").above
    )


def _relief(rows: Rows, activation: str, gain: float) -> Interval:
    """By how much BatchNorm lowers the share of saturated units."""
    own = rows.where(part="start", activation=activation, gain=gain)
    return interval(own.paired("saturated", {"norm": "none"}, {"norm": "batchnorm"}))


def _without(rows: Rows, activation: str, gain: float) -> float:
    """The share of saturated units of the plain network."""
    return rows.mean("saturated", part="start", activation=activation, gain=gain, norm="none")


def _count(found: list[bool]) -> Verdict:
    return Verdict.SUPPORTED if all(found) else Verdict.DEPENDS if any(found) else Verdict.REFUTED
