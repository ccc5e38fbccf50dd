"""Where do queries, keys and values come from, and what of it is a parameter?"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.lab.parts.lookup import CHANCE, SURE, lookup, reader
from clearhead.lab.pictures import bars, label, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval
from clearhead.lab.training import build, encoder_decoder, score, train
from clearhead.model import ModelConfig, Transformer
from clearhead.model.attention.dot import Dot
from clearhead.model.attention.multihead import CrossAttention, MultiHead
from clearhead.model.attention.projections import Projections
from clearhead.model.recorder import EVERYTHING, Tap, recording

VOCAB = 23
EXACT, SLOPE = 1e-12, 1e-6  # of products in float64; of gradients against finite differences, both relative
COUNTS = 0.02  # accuracy: a smaller change counts as none
SITES = {  # attention -> where its queries would come from if they came from words, and its keys and values
    "encoder.blocks.0.attention": ("encoder", "encoder"),
    "encoder.blocks.1.attention": ("encoder", "encoder"),
    "decoder.blocks.0.attention": ("decoder", "decoder"),
    "decoder.blocks.0.cross": ("decoder", "encoder"),
}
FROZEN: Mapping[str, tuple[str, ...]] = {
    "nothing": (),
    "W_V": ("value",),
    "W_Q and W_K": ("query", "key"),
    "all three": ("query", "key", "value"),
}
QKV = ("query", "key", "value")
EXPECTED = {512: 0.354, 64: 1.0}  # width under the root -> spread of a scaled score of width 64
NEAR = 0.02


@QUESTIONS.register("qkv-projection-origin")
class QkvProjectionOrigin(Question):
    """Inputs and outputs of W_Q, W_K and W_V at four sites, their gradients, and a lookup learned without them."""

    topic = "attention"
    title = Text(
        en="Where do queries, keys and values come from, what of it is a parameter, and how large is d_k?",
        zh="查询、键、值从哪里来？哪些是参数，哪些是激活值？d_k 等于多少？",
    )
    sources = (Source("003", "II.1"), Source("002", "1.2"))
    claims = (
        Claim(
            "words",
            Text(
                en="Q, K and V are the word vectors of the input times three matrices.",
                zh="Q、K、V 是输入词向量与三个矩阵的乘积。",
            ),
            Source("002", "1.2"),
            note=Text(en="Deeper layers do not see word vectors.", zh="更深的层见不到词向量。"),
        ),
        Claim(
            "width",
            Text(en="d_k is the width of the word vectors, such as 512.", zh="d_k 是词向量的维度，例如 512。"),
            Source("002", "1.2"),
        ),
        Claim(
            "trainable",
            Text(en="Q, K and V are themselves trainable matrices.", zh="Q、K、V 本身就是可训练的矩阵。"),
            Source("003", "II.1"),
            note=Text(en="A premise of the question.", zh="这是提问中隐含的前提。"),
        ),
        Claim(
            "learned",
            Text(en="The matrices that make Q and K have to be learned.", zh="生成 Q 和 K 的矩阵必须经过学习。"),
            Source("003", "II.1"),
        ),
    )
    prediction = Text(
        en="Q is W_Q times what the layer reads: word vectors in the first layer only, the layer below elsewhere, "
        "the encoder's output for K and V of cross-attention. Parameters are the W alone. With random W_Q and W_K "
        "left as they are, a lookup is learned clearly worse; with random W_V it is not, since W_O learns what W_V "
        "could.",
        zh="Q 等于 W_Q 乘以该层读到的向量：只有第一层读到词向量，更深的层读到前一层的输出，交叉注意力的 K 与 V 读到编码"
        "器输出。参数只有各个 W。随机的 W_Q、W_K 保持不动时，查表明显学得更差；W_V 不动则影响不大，因为 W_O 能学会 W_V "
        "的作用。",
    )
    criterion = Text(
        en="words: depends if the product with word vectors (positions added) is exact to 1e-12 in first layers but "
        "off by more than 1 % elsewhere, where the product with the layer's own input is exact; supported if exact "
        "everywhere, else refuted. width: refuted if scores divided by sqrt(64) spread by 1.00 and by sqrt(512) by "
        "0.354, within 0.02, and the base model has d_k 64, else supported. trainable: refuted if Q changes with "
        "the text while gradients of W_Q, W_K and W_V agree with finite differences to 1e-6, else inconclusive. "
        "learned: supported if freezing W_Q and W_K surely lowers the accuracy by more than 2 points, refuted if surely "
        "by less, else inconclusive.",
        zh="words：第一层中与词向量（已加位置）之积误差在 1e-12 内，而其他位置偏差超过 1%、且与该层自身输入之积精确"
        "，则视情况而定；处处精确则成立，否则不成立。width：除以 √64 的打分标准差为 1.00、除以 √512 为 0.354（误差 "
        "0.02 内），且基础模型的 d_k 为 64，则不成立，否则成立。trainable：Q 随文本变化，且 W_Q、W_K、W_V 的梯度与有"
        "限差分相差不超过 1e-6，则不成立，否则尚无定论。learned：冻结 W_Q 与 W_K 使正确率确定下降 2 个百分点以上则成立"
        "，确定下降不到这么多则不成立，否则尚无定论。",
    )
    parts = (
        "clearhead.model.attention.projections:Fused",
        "clearhead.model.config:ModelConfig",
    )
    references = ("Vaswani et al., 2017, arXiv:1706.03762, sections 3.2.1 to 3.2.3",)

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=5):
            for part in ("sites", "gradients", "spread"):
                yield {"part": part, "seed": seed}
            for frozen in FROZEN:
                yield {
                    "part": "frozen",
                    "frozen": frozen,
                    "updates": scale.pick(quick=30, full=SURE.updates),
                    "seed": seed,
                }

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        if cell["part"] == "frozen":
            return [_frozen(str(cell["frozen"]), int(cell["updates"] or 0), seed)]
        parts = {"sites": _sites, "gradients": _gradients, "spread": _spread}
        return parts[str(cell["part"])](seed)

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        first, deeper = (rows.column("from_words", first=each) for each in (True, False))
        exact = max(rows.column("from_input"))
        spread = {width: rows.mean("spread", width=width) for width in EXPECTED}
        scaled = all(abs(spread[width] - value) < NEAR for width, value in EXPECTED.items())
        base = ModelConfig().sizes.d_head
        moved, slope = min(rows.column("changed")), max(rows.column("slope"))
        harm = _harm(rows, "W_Q and W_K")
        return {
            "words": Judgement(
                _words(max(first), max(deeper), exact),
                Text(
                    en=f"W times word vectors is off by {max(first):.1g} in first layers and by up to "
                    f"{max(deeper):.2g} elsewhere; W times the layer's own input by {exact:.1g}.",
                    zh=f"W 乘词向量，在第一层误差 {max(first):.1g}，其他位置最多达 {max(deeper):.2g}；W 乘该层自身的输"
                    f"入，误差 {exact:.1g}。",
                ),
            ),
            "width": Judgement(
                Verdict.REFUTED if scaled and base == 64 else Verdict.SUPPORTED,
                Text(
                    en=f"The base model's d_k is {base}; scores spread by {spread[64]:.3f} divided by sqrt(64), by "
                    f"{spread[512]:.3f} divided by sqrt(512).",
                    zh=f"基础模型的 d_k 为 {base}；打分除以 √64 后标准差为 {spread[64]:.3f}，除以 √512 后为 "
                    f"{spread[512]:.3f}。",
                ),
            ),
            "trainable": Judgement(
                Verdict.REFUTED if moved > 0.01 and slope < SLOPE else Verdict.INCONCLUSIVE,
                Text(
                    en=f"With another text Q changes by {moved:.0%} of its size or more, W_Q not at all; gradients "
                    f"of W_Q, W_K and W_V agree with finite differences to {slope:.1g}.",
                    zh=f"换一段文本，Q 至少变化其大小的 {moved:.0%}，W_Q 不变；W_Q、W_K、W_V 的梯度与有限差分相差 "
                    f"{slope:.1g}。",
                ),
            ),
            "learned": Judgement(
                _beyond(harm),
                Text(
                    en=f"Freezing W_Q and W_K at random changes the accuracy by {harm}.",
                    zh=f"把 W_Q 与 W_K 冻结在随机值，正确率变化 {harm}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        accuracy = {each: rows.mean("accuracy", frozen=each) for each in FROZEN}
        harm = _harm(rows, "W_V")
        return Answer(
            short=Text(
                en=f"Parameters are the matrices W_Q, W_K and W_V: random at first, moved by the gradient of the "
                f"loss. Q, K and V are activations: these matrices times whatever the layer reads, new for every "
                f"text. d_k is the width of one head, {ModelConfig().sizes.d_head} in the base model. A lookup is "
                f"answered with {accuracy['nothing']:.0%} right if all are trained, {accuracy['W_Q and W_K']:.0%} "
                f"with W_Q and W_K left random, {accuracy['W_V']:.0%} with W_V left random.",
                zh=f"参数是矩阵 W_Q、W_K、W_V：开始时随机，由损失的梯度更新。Q、K、V 是激活值：由这些矩阵乘以该层读到的"
                f"向量得到，每段文本都不同。d_k 是单个头的宽度，基础模型中为 {ModelConfig().sizes.d_head}。查表任务中"
                f"全部训练时正确率 {accuracy['nothing']:.0%}，W_Q 与 W_K 保持随机时 "
                f"{accuracy['W_Q and W_K']:.0%}，W_V 保持随机时 {accuracy['W_V']:.0%}。",
            ),
            imprecise=Text(
                en=f"Only the first layer multiplies word vectors, and even those with positions added; "
                f"cross-attention makes K and V from the encoder's output. Leaving W_V random changes the accuracy "
                f"by {harm}.",
                zh=f"只有第一层乘的是词向量，而且已加上位置；交叉注意力的 K 与 V 来自编码器输出。W_V 保持随机使正确率"
                f"变化 {harm}。",
            ),
            limits=Text(
                en=f"Exact parts on random weights; the lookup with two layers of one head, width 32, "
                f"{len(rows.distinct('seed'))} seeds and one learning rate.",
                zh=f"精确检验用随机权重；查表用两层单头、宽度 32 的模型，{len(rows.distinct('seed'))} 个种子，单一学习"
                f"率。",
            ),
            caption=Text(
                en="Left: how far W times word vectors is from Q, K and V. Right: a lookup learned with some "
                "matrices left random.",
                zh="左：W 乘词向量与实际 Q、K、V 的偏差。右：部分矩阵保持随机时学到的查表正确率。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (left, right) = panels(2)
        names = ["encoder 1", "encoder 2", "decoder 1", "cross"]
        bars(left, names, [rows.mean("from_words", site=each) for each in SITES])
        found = [interval(rows.column("accuracy", frozen=each)) for each in FROZEN]
        bars(right, list(FROZEN), [replace(each, low=max(each.low, 0.0), high=min(each.high, 1.0)) for each in found])
        right.set_ylim(0.0, 1.2)
        threshold(right, CHANCE, "any value of the text")
        right.tick_params(axis="x", labelsize=8)
        right.legend(fontsize=8)
        label(left, x="attention", y="relative difference", title="Q, K, V against W times word vectors")
        label(right, x="matrices left random", y="accuracy of a lookup (share)")
        return figure


def _queries_from(module: MultiHead, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    hidden: Tensor = inputs[0]
    return hidden


def _keys_from(module: MultiHead, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    read: Tensor = inputs[1].hidden if isinstance(module, CrossAttention) else inputs[0]
    return read


READ = (
    Tap(at=MultiHead, name=lambda path: f"{path}.reads", take=_queries_from),
    Tap(at=MultiHead, name=lambda path: f"{path}.reads_for_keys", take=_keys_from),
)


def _model(seed: int) -> Transformer:
    """An encoder-decoder without biases, whose layers read the stream itself."""
    changes = {"encoder_layers": 2, "residual": "post", "feedforward": "gelu", "bias": False}
    return build(encoder_decoder(VOCAB, changes), seed).double()


def _texts(seed: int) -> tuple[Tensor, Tensor]:
    source, target = torch.randint(VOCAB, (2, 3, 7), generator=torch.Generator().manual_seed(seed))
    return source, target


@torch.no_grad()
def _sites(seed: int) -> Iterable[Row]:
    """At each attention: Q, K and V against the matrices times word vectors, and times what the layer reads."""
    model = _model(seed)
    records = []
    for text in (seed, seed + 1):
        source, target = _texts(text)
        with recording(model, EVERYTHING + READ) as record:
            model.decode(target, model.encode(source))
        records.append(record)
    record = records[0]
    for site, sides in SITES.items():
        attention = model.get_submodule(site)
        assert isinstance(attention, MultiHead)
        reads = (record[f"{site}.reads"], *[record[f"{site}.reads_for_keys"]] * 2)
        words = [record[f"{side}.embedding"] for side in (sides[0], sides[1], sides[1])]
        made = [record[f"{site}.{each}"] for each in ("queries", "keys", "values")]
        other = records[1][f"{site}.queries"]
        yield {
            "site": site,
            "first": site.endswith("0.attention"),
            "from_words": _worst(attention, words, made),
            "from_input": _worst(attention, reads, made),
            "changed": float((made[0] - other).norm() / made[0].norm()),
        }


def _worst(attention: MultiHead, reads: Iterable[Tensor], made: Iterable[Tensor]) -> float:
    """The largest relative difference between x W and what was made, over Q, K and V."""
    matrices = attention.projections.matrices().values()
    pairs = ((attention.projections.split(x @ w.T), each) for x, w, each in zip(reads, matrices, made, strict=True))
    return max(float((product - each).norm() / each.norm()) for product, each in pairs)


def _gradients(seed: int) -> Iterable[Row]:
    """Gradients of a loss by backward and by central differences along a random direction, for each matrix."""
    model, (source, target) = _model(seed), _texts(seed)
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        return model.logits(model.decode(target, model.encode(source))).square().mean()

    for site in SITES:
        attention = model.get_submodule(site)
        assert isinstance(attention, MultiHead)
        (weight,) = attention.projections.parameters()
        (gradient,) = torch.autograd.grad(loss(), weight)
        for name, rows in zip(attention.projections.matrices(), gradient.chunk(3), strict=True):
            direction = torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
            slope = _slope(loss, attention.projections.matrices()[name], direction)
            expected = float((rows * direction).sum())
            yield {"site": site, "matrix": name, "slope": abs(slope - expected) / float(rows.norm() * direction.norm())}


@torch.no_grad()
def _slope(loss: Any, matrix: Tensor, direction: Tensor, step: float = 1e-5) -> float:
    """The central difference of the loss along a direction; the matrix is as before afterwards."""
    values = []
    for sign in (1, -2):
        matrix.add_(direction, alpha=sign * step)
        values.append(float(loss()))
    matrix.add_(direction, alpha=step)
    return (values[0] - values[1]) / (2 * step)


def _spread(seed: int) -> Iterable[Row]:
    """The standard deviation of the scores of the base model's heads, divided by either root."""
    sizes = ModelConfig().sizes
    query, key = torch.randn(2, 1, sizes.heads, 256, sizes.d_head, generator=torch.Generator().manual_seed(seed))
    for width in EXPECTED:
        kernel = Dot(sizes.heads, sizes.d_head, 0.0, scale=width**-0.5)
        yield {"width": width, "spread": float(kernel.scores(query, key).std())}


def _frozen(name: str, updates: int, seed: int) -> Row:
    """What a model learns of a lookup while some matrices, and their biases, stay as they are."""
    model = build(reader({"heads": 1}), seed)
    for module in model.modules():
        if isinstance(module, Projections):
            _keep(module, FROZEN[name])
    for _ in train(model, lookup(), replace(SURE, updates=updates), seed):
        pass
    return {"accuracy": score(model, lookup(), seed).accuracy}


def _keep(projections: Projections, names: tuple[str, ...]) -> None:
    """Take the gradient from the rows of these matrices inside the fused one."""
    kept = torch.cat(
        [torch.full((rows,), float(name not in names)) for name, rows in zip(QKV, projections.sizes.rows, strict=True)]
    )
    for parameter in projections.parameters():
        parameter.register_hook(_times(kept))  # type: ignore[no-untyped-call]


def _times(kept: Tensor) -> Callable[[Tensor], Tensor]:
    """Rows of a gradient, of a matrix or of a bias, times 1 or 0."""
    return lambda gradient: gradient * kept.view(-1, *[1] * (gradient.dim() - 1))


def _words(first: float, deeper: float, exact: float) -> Verdict:
    if max(first, deeper) <= EXACT:
        return Verdict.SUPPORTED
    return Verdict.DEPENDS if max(first, exact) <= EXACT and deeper > 0.01 else Verdict.REFUTED


def _beyond(harm: Interval) -> Verdict:
    """Whether freezing costs more than counts."""
    if harm.high < -COUNTS:
        return Verdict.SUPPORTED
    return Verdict.REFUTED if harm.low > -COUNTS else Verdict.INCONCLUSIVE


def _harm(rows: Rows, frozen: str) -> Interval:
    """What freezing does to the accuracy, paired by seed."""
    return interval(rows.where(part="frozen").paired("accuracy", {"frozen": frozen}, {"frozen": "nothing"}))
