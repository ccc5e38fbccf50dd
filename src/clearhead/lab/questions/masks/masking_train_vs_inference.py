"""Which mask works at which of the three attentions, in training and in inference?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.generate import DenseCache
from clearhead.lab.pictures import COLOURS, label, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.training import build, encoder_decoder
from clearhead.model import CAUSAL, OPEN, Memory, Transformer

VOCAB, SOURCE, TARGET = 23, 9, 7
LENGTHS = (9, 4, 6)  # tokens of the sources; the rest is padding
EXACT = {"float32": 1e-5, "float64": 1e-10}
MATTERS = 1e-3  # leaving out a mask that works changes outputs by more
PHASES = ("training", "prefix read anew", "cached")
MASKS = ("padding, encoder", "padding, cross-attention", "causal")


@QUESTIONS.register("masking-train-vs-inference")
class MaskingTrainVsInference(Question):
    """One model, three ways to compute the same decoder; then each mask is left out in turn."""

    topic = "masks"
    title = Text(
        en="Which masks work at the three attentions, in training and in inference?",
        zh="三处注意力在训练和推理时各用哪些遮挡？",
    )
    sources = (Source("003", "IV.9"), Source("003", "V.4"), Source("000", "20"))
    claims = (
        Claim(
            "differs",
            Text(en="Masking in training differs from masking in inference.", zh="训练与推理时的遮挡不同。"),
            Source("003", "IV.9"),
            note=Text(en="At which attention is not said.", zh="没有说明是哪一处注意力。"),
        ),
    )
    prediction = Text(
        en="The padding of the source is hidden in the encoder and in cross-attention in both phases. The causal mask matters in training "
        "and when a prefix is read anew; for a single query with a cache there is no future left to hide.",
        zh="源句的填充在编码器和交叉注意力中始终要遮住，两个阶段都一样。因果遮挡在训练和重新读前缀时起作用；带缓存、每次只有一个查询时，"
        "没有未来可遮。",
    )
    criterion = Text(
        en="Depends if the three procedures agree (1e-5 in float32, 1e-10 in float64), leaving out either padding mask changes outputs by "
        "more than 0.001 in every phase, and leaving out the causal mask does so in training and with prefixes read anew but changes "
        "nothing at all with a cache: then the phases differ only where inference keeps a cache. Supported if some mask matters in training "
        "and with neither procedure of inference; refuted otherwise.",
        zh="若三种计算方式一致（float32 为 1e-5，float64 为 1e-10），去掉任一处填充遮挡在每个阶段都使输出改变超过 0.001，去掉因果遮挡在训练和"
        "重读前缀时也是如此、而带缓存时完全没有变化，则视情况而定：两个阶段只在推理带缓存时才不同。若某种遮挡在训练时起作用，而两种推理方式下都不起作用，"
        "则成立；否则不成立。",
    )
    parts = ("clearhead.model.mask:AttentionMask", "clearhead.model.attention.multihead:CrossAttention")
    references = ("Vaswani et al., 2017, arXiv:1706.03762, section 3.2.3",)

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=2, full=20):
            for each in EXACT:
                yield {"format": each, "seed": seed}

    @torch.no_grad()
    def measure(self, cell: Cell) -> Iterable[Row]:
        seed, dtype = int(cell["seed"] or 0), getattr(torch, str(cell["format"]))
        model = build(encoder_decoder(VOCAB, {"encoder_layers": 2, "decoder_layers": 2}), seed).to(dtype).eval()
        generator = torch.Generator().manual_seed(seed)
        source = torch.randint(1, VOCAB, (len(LENGTHS), SOURCE), generator=generator)
        target = torch.randint(1, VOCAB, (len(LENGTHS), TARGET), generator=generator)
        valid = torch.arange(SOURCE) < torch.tensor(LENGTHS)[:, None]
        right = _training(model, target, model.encode(source, valid), causal=True)
        alone = [_training(model, t[None], model.encode(s[None, :n]), causal=True)
                 for s, t, n in zip(source, target, LENGTHS, strict=True)]  # fmt: skip
        yield {"phase": "alone", "left_out": "nothing", "change": _change(right, torch.cat(alone))}
        for name, compute in (("training", _training), ("prefix read anew", _prefixes), ("cached", _cached)):
            whole = model.encode(source, valid)
            blind = Memory(model.encode(source).hidden, valid)  # the encoder reads padding
            nosy = Memory(whole.hidden, None)  # cross-attention reads padding
            masked = compute(model, target, whole, causal=True)
            yield {"phase": name, "left_out": "nothing", "change": _change(right, masked)}
            for left_out, memory, causal in zip(MASKS, (blind, nosy, whole), (True, True, False), strict=True):
                found = compute(model, target, memory, causal=causal)
                yield {"phase": name, "left_out": left_out, "change": _change(masked, found)}

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        agree = {name: max(rows.column("change", left_out="nothing", format=name)) for name in EXACT}
        change = {(p, m): rows.column("change", phase=p, left_out=m) for p in PHASES for m in MASKS}
        least = min(min(each) for where, each in change.items() if where != ("cached", "causal"))
        cached = max(change["cached", "causal"])
        alike = all(agree[name] <= limit for name, limit in EXACT.items())
        gone = [m for m in MASKS if min(change["training", m]) > MATTERS and _vanishes(change, m)]
        by_cache = alike and least > MATTERS and cached == 0.0
        return {
            "differs": Judgement(
                Verdict.DEPENDS if by_cache else Verdict.SUPPORTED if alike and gone else Verdict.REFUTED,
                Text(
                    en=f"The three ways agree to {agree['float32']:.0e} (float32) and {agree['float64']:.0e} (float64). Leaving out the causal "
                    f"mask with a cache changes outputs by {cached:g}; leaving out any other, or that one without a cache, by at least {least:.2g}.",
                    zh=f"三种方式相差不超过 {agree['float32']:.0e}（float32）和 {agree['float64']:.0e}（float64）。带缓存时去掉因果遮挡，"
                    f"输出改变 {cached:g}；去掉其他遮挡，或不带缓存时去掉因果遮挡，至少改变 {least:.2g}。",
                ),
            )
        }

    def answer(self, rows: Rows) -> Answer:
        training = rows.mean("change", phase="training", left_out="causal")
        cached = max(rows.column("change", phase="cached", left_out="causal"))
        return Answer(
            short=Text(
                en="Encoder self-attention and cross-attention hide the padding of the source, in training and in inference alike. Decoder "
                f"self-attention hides the future: leaving that out in training changes some output by {training:.2g} on average. When tokens "
                f"are generated one by one with a cache, the newest query has no future: leaving the mask out changes outputs by {cached:g}.",
                zh="编码器自注意力和交叉注意力遮住源句的填充，训练与推理相同。解码器自注意力遮住未来：训练时去掉它，输出的最大改变"
                f"平均为 {training:.2g}。带缓存逐词生成时，最新的查询没有未来：去掉遮挡，输出改变 {cached:g}。",
            ),
            imprecise=Text(
                en="The rules are the same in both phases; what differs is what they have left to hide. Reading the whole prefix anew at each "
                "step still needs the causal mask, or earlier positions would change as the text grows.",
                zh="两个阶段的规则相同，不同的是还剩下什么可遮。每步重新读整个前缀时仍需要因果遮挡，否则文本变长时前面位置的表示会随之改变。",
            ),
            limits=Text(
                en=f"Untrained models of 2 + 2 layers, {len(rows.distinct('seed'))} seed(s); padding of targets is not varied.",
                zh=f"未训练的 2 + 2 层模型，{len(rows.distinct('seed'))} 个随机种子；没有改变目标句的填充。",
            ),
            caption=Text(
                en="The most that outputs change when a mask is left out, by phase. First column: against training with all masks.",
                zh="去掉某个遮挡后输出的最大改变，按阶段列出。第一列：遮挡齐全时与训练方式的差别。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (axes,) = panels(1, width=7.0, height=2.8)
        for r, phase in enumerate(PHASES):
            for c, mask in enumerate(("nothing", *MASKS)):
                change = max(rows.column("change", phase=phase, left_out=mask, format="float64"))
                text = "0" if change == 0 else f"{change:.1g}"
                colour = COLOURS[1 if change > MATTERS else 2]
                axes.text(c, r, text, ha="center", va="center", color=colour, fontweight="bold")
        axes.set_xlim(-0.5, len(MASKS) + 0.5)
        axes.set_ylim(len(PHASES) - 0.5, -0.5)
        axes.set_xticks(range(len(MASKS) + 1), [each.replace(", ", ",\n") for each in ("nothing", *MASKS)])
        axes.set_yticks(range(len(PHASES)), PHASES)
        axes.grid(visible=False)
        label(axes, x="mask that is left out", y="phase", title="largest change of the decoder's output, float64")
        return figure


def _training(model: Transformer, target: Tensor, memory: Memory, *, causal: bool) -> Tensor:
    """All positions at once, as in training."""
    return model.decode(target, memory, mask=CAUSAL if causal else OPEN)


def _prefixes(model: Transformer, target: Tensor, memory: Memory, *, causal: bool) -> Tensor:
    """Each prefix read anew, its last position kept."""
    mask = CAUSAL if causal else OPEN
    ends = range(1, target.shape[1] + 1)
    return torch.cat([model.decode(target[:, :end], memory, mask=mask)[:, -1:] for end in ends], dim=1)


def _cached(model: Transformer, target: Tensor, memory: Memory, *, causal: bool) -> Tensor:
    """One token at a time, keys and values of the others from a cache."""
    mask, cache = CAUSAL if causal else OPEN, DenseCache(model.config.decoder_layers)
    steps = [
        model.decode(target[:, at, None], memory, mask=mask, positions=torch.tensor([[at]]), cache=cache)
        for at in range(target.shape[1])
    ]
    return torch.cat(steps, dim=1)


def _change(right: Tensor, found: Tensor) -> float:
    return float((right - found).abs().max())


def _vanishes(change: Mapping[tuple[str, str], list[float]], mask: str) -> bool:
    """Leaving the mask out changes nothing in either procedure of inference."""
    return all(max(change[phase, mask]) == 0.0 for phase in PHASES[1:])
