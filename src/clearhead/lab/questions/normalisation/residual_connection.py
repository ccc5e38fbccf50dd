"""Why do residual connections help, and does the "1 +" in the derivative guarantee a gradient?"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clearhead.lab.pictures import label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval
from clearhead.lab.training import Plan, build, decoder, task, train
from clearhead.model.cache import NO_CACHE
from clearhead.model.feedforward.plain import Relu
from clearhead.model.mask import CAUSAL
from clearhead.model.norm import NORMS, NoNorm
from clearhead.model.residual import RESIDUALS, Depth, PreNorm, Residual

WIDTH, INNER = 32, 128
STEEP, FLAT = -0.5, 0.05  # slopes of the log ratio per layer: clearly vanishing, clearly kept
GONE = 1e-12  # a gradient below this share counts as vanished
EPSILON, CANCELLED = 0.01, 8  # what the counter-example leaves of the identity, and its layers
SETTINGS = {  # name: residual, norm, initial weights
    "plain": ("none", "none", "glorot"),
    "norm only": ("none", "layernorm", "glorot"),
    "residual": ("pre", "none", "glorot"),
    "residual + norm": ("pre", "layernorm", "glorot"),
    "plain, He": ("none", "none", "he"),
    "residual, He": ("pre", "none", "he"),
}
TARGET = 0.2  # nats above the entropy rate


@QUESTIONS.register("residual-connection")
class ResidualConnection(Question):
    """Gradients through towers of blocks, an exact cancellation, spectra, and training with and without."""

    topic = "norm-residual"
    title = Text(
        en="Why do residual connections help, and is the gradient really guaranteed by the '1 +' term?",
        zh="残差连接为什么有效？导数里多出来的那个 1 真能保证梯度不为零吗？",
    )
    sources = (Source("000", "11"), Source("002", "1.3"), Source("002", "1.3(1)"), Source("003", "I.11"))
    claims = (
        Claim(
            "gradients",
            Text(
                en="Shortcuts carry information past attention and feed-forward network, so gradients vanish less and "
                "training is faster.",
                zh="捷径让信息绕过注意力和前馈网络，因而缓解梯度消失、加快收敛。",
            ),
            Source("000", "11"),
            note=Text(
                en="In post-norm the shortcut passes through a norm, so it is no identity.",
                zh="后归一化中捷径要经过归一化，并非恒等映射。",
            ),
        ),
        Claim(
            "expressive",
            Text(
                en="Shortcuts make the model deeper and thereby more expressive.",
                zh="捷径增加了模型深度，从而提升表达能力。",
            ),
            Source("000", "11"),
            note=Text(en="They add neither layers nor parameters.", zh="它既不增加层数，也不增加参数。"),
        ),
        Claim(
            "guarantee",
            Text(
                en="The derivative has an additional 1, so it is never 0 even if the rest of the product is.",
                zh="导数中多了一个 1，因此即使连乘项趋近于 0，导数也不会为 0。",
            ),
            Source("002", "1.3(1)"),
            note=Text(
                en="The 1 is an identity matrix, and another matrix can cancel it.",
                zh="这个 1 其实是单位矩阵，可以被另一个矩阵抵消。",
            ),
        ),
    )
    prediction = Text(
        en="Without a shortcut the gradient falls by more than a factor e^0.5 a layer, with it it stays within "
        "e^0.05; a deep model learns faster with it. Layers that learn -x cancel the identity, so nothing is "
        "guaranteed. With He's larger weights the plain tower should hardly vanish: part of the benefit is a matter "
        "of initialisation.",
        zh="没有捷径时，梯度每层衰减超过 e^0.5 倍；有捷径时每层衰减不超过 e^0.05 倍，深层模型也学得更快。若各层恰好学"
        "到 -x，恒等项就被抵消，因此谈不上保证。改用 He 的较大初始权重，普通网络应几乎不衰减：好处有一部分来自初始"
        "化。",
    )
    criterion = Text(
        en="gradients: supported if the slope per layer of log(gradient beneath the blocks / gradient above them) "
        "lies below -0.5 for the plain tower and above -0.05 with a shortcut, with and without norm (intervals over "
        "seeds), and the deeper Transformer ends with less loss with shortcuts than without (paired interval); "
        "refuted if the first part fails; depends if only the second does. expressive: refuted if layers and "
        "parameters are equal. guarantee: refuted if a gradient below 1e-12 gets through 8 residual blocks with F(x) "
        "= -x + 0.01 A x, A orthogonal.",
        zh="梯度：log（底部梯度/顶部梯度）对层数的斜率，普通网络低于 -0.5，有捷径（无论有无归一化）高于 -0.05（对种子"
        "取区间），且较深的 Transformer 有捷径时最终损失更低（配对区间），则成立；前一半不满足则不成立；只有后一半不"
        "满足则视情况而定。表达力：层数与参数量相等则不成立。保证：8 个 F(x) = -x + 0.01 A x（A 正交）的残差块若使梯"
        "度低于 1e-12，则不成立。",
    )
    parts = (
        "clearhead.model.residual.placement:PreNorm",
        "clearhead.model.residual.placement:PostNorm",
        "clearhead.model.residual.placement:NoResidual",
    )
    references = (
        "He et al., 2016, Deep residual learning, arXiv:1512.03385",
        "He et al., 2016, Identity mappings, arXiv:1603.05027, equations 3 to 5",
        "Veit, Wilber and Belongie, 2016, arXiv:1605.06431",
        "Xiong et al., 2020, arXiv:2002.04745",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        yield {"part": "cancel"}
        for seed in scale.seeds(quick=2, full=10):
            yield {"part": "tower", "seed": seed}
        for seed in scale.seeds(quick=1, full=3):
            yield {"part": "spectrum", "seed": seed}
        for seed in scale.seeds(quick=1, full=5):
            for layers in scale.pick(quick=(2,), full=(2, 8)):
                for residual in ("post", "none"):
                    yield {
                        "part": "training",
                        "layers": layers,
                        "residual": residual,
                        "updates": scale.pick(quick=10, full=200),
                        "seed": seed,
                    }

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell.get("seed") or 0)
        if cell["part"] == "cancel":
            return [{"layers": layers, "left": _cancelled(layers)} for layers in range(1, CANCELLED + 1)]
        if cell["part"] == "tower":
            return [
                {"setting": name, "layers": layers, "ratio": _ratio(name, layers, seed)}
                for name in SETTINGS
                for layers in (2, 4, 8, 16, 32)
            ]
        if cell["part"] == "spectrum":
            return [{"residual": each, **_spectrum(each, seed)} for each in ("none", "post", "pre")]
        return [_learning(int(cell["layers"] or 0), str(cell["residual"]), int(cell["updates"] or 0), seed)]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        slopes = {name: _slope(rows, name) for name in SETTINGS}
        plain, kept = slopes["plain"], (slopes["residual"], slopes["residual + norm"])
        conveyed = plain.high < STEEP and all(each.low > -FLAT for each in kept)
        gain, deep = _gain(rows), max(rows.where(part="training").distinct("layers"))
        left = rows.one("left", part="cancel", layers=CANCELLED)
        counts = {
            each: set(rows.column("parameters", part="training", layers=deep, residual=each))
            for each in ("post", "none")
        }
        same = counts["none"] == counts["post"]
        parameters = max(counts["post"])
        gradients = Verdict.SUPPORTED if gain.above else Verdict.DEPENDS if gain.count > 1 else Verdict.INCONCLUSIVE
        return {
            "gradients": Judgement(
                gradients if conveyed else Verdict.REFUTED,
                Text(
                    en=f"Slope per layer of the log gradient: plain {plain}, with a shortcut {kept[0]}, with shortcut and norm {kept[1]}. "
                    f"Loss at {deep} layers without minus with shortcuts: {gain.mean:.2f} nats.",
                    zh=f"对数梯度的每层斜率：普通 {plain}，有捷径 {kept[0]}，捷径加归一化 {kept[1]}。{deep} 层时无捷径比有捷径的"
                    f"损失高 {gain.mean:.2f} 奈特。",
                ),
            ),
            "expressive": Judgement(
                Verdict.REFUTED if same else Verdict.SUPPORTED,
                Text(
                    en=f"{deep} layers and {parameters:.0f} parameters with shortcuts, {deep} layers and "
                    f"{max(counts['none']):.0f} without.",
                    zh=f"有捷径：{deep} 层、{parameters:.0f} 个参数；无捷径：{deep} 层、{max(counts['none']):.0f} 个参"
                    f"数。",
                ),
            ),
            "guarantee": Judgement(
                Verdict.REFUTED if left < GONE else Verdict.SUPPORTED,
                Text(
                    en=f"Through {CANCELLED} residual blocks the counter-example lets {left:.1g} of the gradient pass.",
                    zh=f"反例中，经过 {CANCELLED} 个残差块后梯度只剩 {left:.1g}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        slopes = {name: _slope(rows, name).mean for name in SETTINGS}
        deep, deepest = (
            max(rows.where(part="training").distinct("layers")),
            max(rows.where(part="tower").distinct("layers")),
        )
        plain, kept, bare = (_typical(rows, each, deepest) for each in ("plain", "residual + norm", "residual"))
        with_, without = (rows.mean("excess", part="training", layers=deep, residual=each) for each in ("post", "none"))
        median = {each: rows.mean("median", part="spectrum", residual=each) for each in ("none", "post", "pre")}
        return Answer(
            short=Text(
                en=f"Through {deepest} feed-forward blocks without shortcuts {plain:.1g} of the gradient arrives; "
                f"with shortcuts and norm it changes by a factor of {kept:.2g}, with shortcuts alone by {bare:.2g}. "
                f"Trained for the same time, a Transformer of {deep} layers ends {without:.2f} nats above the "
                f"entropy of its data without shortcuts and {with_:.2f} with them. It is a tendency, not a "
                f"guarantee: a sub-layer whose Jacobian is close to -1 times the identity cancels the 1.",
                zh=f"穿过 {deepest} 个没有捷径的前馈块后，梯度只剩 {plain:.1g}；有捷径和归一化时变为 {kept:.2g} 倍，只"
                f"有捷径时变为 {bare:.2g} 倍。训练同样久，{deep} 层 Transformer 无捷径时损失比数据的熵高 "
                f"{without:.2f} 奈特，有捷径时高 {with_:.2f} 奈特。这是倾向而非保证：若某个子层的雅可比矩阵接近负的单"
                f"位矩阵，那个 1 就被抵消了。",
            ),
            imprecise=Text(
                en=f"Shortcuts add no depth; they make depth trainable. With a norm alone, without shortcuts, the slope is "
                f"{slopes['norm only']:.2f} a layer. Part of the contrast is initialisation: with "
                f"He's weights the plain tower's slope is {slopes['plain, He']:.2f} a layer, while a stream of "
                f"shortcuts without norm then changes by {slopes['residual, He']:.2f} a layer, so shortcuts do not "
                f"rule out growth. In a derivative of vectors the 1 is a matrix.",
                zh=f"捷径不增加深度，只是让深层网络可以训练。只有归一化而无捷径时，斜率为每层 {slopes['norm only']:.2f}。差别有一部分来自初始化：用 He 初始化时，普通网络的斜率为"
                f"每层 {slopes['plain, He']:.2f}，而不带归一化的残差流为每层 {slopes['residual, He']:.2f}，可见捷径并"
                f"不排除梯度增长。对向量求导时，那个 1 是矩阵。",
            ),
            limits=Text(
                en=f"Towers of width {WIDTH} in float64, {len(rows.where(part='tower').distinct('seed'))} seed(s); "
                f"training on a Markov chain with {len(rows.where(part='training').distinct('seed'))} seed(s), "
                f"post-norm. Median singular value of the Jacobian of 8 layers end to end: {median['none']:.1g} without "
                f"shortcuts, {median['post']:.1g} post-norm, {median['pre']:.1g} pre-norm; the smallest is 0 but for rounding "
                f"wherever a norm wipes out directions.",
                zh=f"前馈塔宽 {WIDTH}、float64、{len(rows.where(part='tower').distinct('seed'))} 个种子；训练数据为马"
                f"尔可夫链，{len(rows.where(part='training').distinct('seed'))} 个种子，后归一化。8 层端到端雅可比矩"
                f"阵的奇异值中位数：无捷径 {median['none']:.1g}，后归一化 {median['post']:.1g}，前归一化 "
                f"{median['pre']:.1g}；归一化会抹掉某些方向，因此最小奇异值除舍入误差外为 0。",
            ),
            caption=Text(
                en="Left: gradient beneath a tower of blocks over that above it. Middle: what the counter-example "
                "lets through. Right: training loss above the entropy rate.",
                zh="左：前馈塔底部与顶部梯度之比。中：反例中剩余的梯度。右：训练损失高出熵率的部分。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (towers, cancel, learned) = panels(3, width=3.9, height=3.8)
        depths = rows.where(part="tower").distinct("layers")
        for place, name in enumerate(SETTINGS):
            line(towers, depths, [_typical(rows, name, each) for each in depths], name, place)
        layers = rows.where(part="cancel").distinct("layers")
        line(
            cancel, layers, [rows.one("left", part="cancel", layers=each) for each in layers], "F(x) = -x + 0.01 A x", 1
        )
        for axes in (towers, cancel):
            axes.set_yscale("log")
        threshold(towers, 1.0, "no change")
        threshold(cancel, GONE, "counts as vanished")
        for place, (residual, name) in enumerate((("post", "with shortcuts"), ("none", "without"))):
            trained = rows.where(part="training", residual=residual)
            found = [interval(trained.column("excess", layers=each)) for each in trained.distinct("layers")]
            line(learned, trained.distinct("layers"), found, name, place)
        label(towers, x="blocks", y="gradient beneath / above the blocks", title="at the start")
        label(cancel, x="residual blocks", y="share of the gradient that passes", title="the 1 cancelled")
        label(learned, x="layers", y="loss above entropy rate (nats per token)", title="after training")
        for axes in (towers, cancel, learned):
            axes.legend(fontsize=7)
        return figure


def _block(residual: str, norm: str) -> Residual:
    depth = Depth(encoder_layers=0, decoder_layers=1, decodes=True)
    return RESIDUALS.get(residual)(lambda: NORMS.get(norm)(WIDTH), 0.0, depth)


def _ratio(setting: str, layers: int, seed: int) -> float:
    """Gradient norm beneath the first block over that above the last, for random inputs and directions."""
    residual, norm, initial = SETTINGS[setting]
    torch.manual_seed(seed)
    bias = True
    networks = [_initialised(Relu(WIDTH, INNER, 0.0, bias), initial) for _ in range(layers)]
    start = torch.randn(64, WIDTH, dtype=torch.float64, requires_grad=True)
    hidden: Tensor = start
    for network in networks:
        hidden = _block(residual, norm).double()(hidden, network)
    above = torch.randn_like(hidden)
    hidden.backward(above)  # type: ignore[no-untyped-call]
    assert start.grad is not None
    return float(start.grad.norm() / above.norm())


def _initialised(network: Relu, initial: str) -> Relu:
    """Glorot's weights as in the package; or He's behind the input, and so that the ReLU's loss of power is made up."""
    for matrix in (network.inner, network.outer):
        nn.init.zeros_(matrix.bias)
        nn.init.xavier_uniform_(matrix.weight)
    if initial == "he":
        nn.init.normal_(network.inner.weight, std=(2 / WIDTH) ** 0.5)
        nn.init.normal_(network.outer.weight, std=(1 / INNER) ** 0.5)
    return network.double()


def _cancelled(layers: int) -> float:
    """The share of a gradient that passes blocks whose sub-layer nearly undoes the shortcut; exactly eps^layers."""
    torch.manual_seed(0)
    residual = PreNorm(lambda: NoNorm(WIDTH), 0.0, Depth(encoder_layers=0, decoder_layers=layers, decodes=True))
    start = torch.randn(1, WIDTH, dtype=torch.float64, requires_grad=True)
    hidden: Tensor = start
    for _ in range(layers):
        turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64)).Q
        hidden = residual(hidden, lambda x, turn=turn: -x + EPSILON * x @ turn)
    above = torch.randn_like(hidden)
    hidden.backward(above)  # type: ignore[no-untyped-call]
    assert start.grad is not None
    return float(start.grad.norm() / above.norm())


def _spectrum(residual: str, seed: int) -> Row:
    """Singular values of the Jacobian of 8 Transformer layers, end to end, at the start of training."""
    model = build(decoder(17, {"decoder_layers": 8, "residual": residual}), seed).double().eval()
    start = torch.randn(1, 4, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def through(hidden: Tensor) -> Tensor:
        return model.decoder.body(hidden, torch.arange(4)[None], CAUSAL, None, NO_CACHE).flatten()

    jacobian = torch.autograd.functional.jacobian(through, start)  # type: ignore[no-untyped-call]
    values = torch.linalg.svdvals(jacobian.reshape(4 * WIDTH, 4 * WIDTH))
    return {"largest": values.max(), "median": values.median(), "smallest": values.min()}


def _learning(layers: int, residual: str, updates: int, seed: int) -> Row:
    text = task("markov", {"length": 16})
    model = build(decoder(text.vocab, {"decoder_layers": layers, "residual": residual}), seed)
    losses = [
        step.loss - (text.best or 0.0) for step in train(model, text, Plan(updates=updates, batch=16, rate=1e-3), seed)
    ]
    reached = next((number for number, loss in enumerate(losses, start=1) if loss < TARGET), None)
    parameters = sum(each.numel() for each in model.parameters())
    return {"excess": float(np.mean(losses[-20:])), "reached": reached, "parameters": parameters}


def _slope(rows: Rows, setting: str) -> Interval:
    """Of the log ratio per layer, fitted for each seed."""
    found = []
    for seed in rows.where(part="tower").distinct("seed"):
        own = rows.where(part="tower", setting=setting, seed=seed)
        found.append(float(np.polyfit(own.column("layers"), np.log(own.column("ratio")), 1)[0]))
    return interval(found)


def _typical(rows: Rows, setting: str, layers: int) -> float:
    """The geometric mean over seeds."""
    return float(np.exp(np.mean(np.log(rows.column("ratio", part="tower", setting=setting, layers=layers)))))


def _gain(rows: Rows) -> Interval:
    """Loss of the deepest model without shortcuts minus with, paired by seed."""
    training = rows.where(part="training")
    deep = max(training.distinct("layers"))
    return interval(
        training.paired("excess", {"layers": deep, "residual": "none"}, {"layers": deep, "residual": "post"})
    )
