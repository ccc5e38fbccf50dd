"""How does attention in the encoder differ from that in the decoder?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.lab.pictures import label, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.training import build, encoder_decoder
from clearhead.model import CAUSAL, OPEN, Transformer
from clearhead.model.attention.multihead import CrossAttention, SelfAttention

VOCAB, LENGTH = 23, 8
SEEN = 1e-8  # a dependence that is there is stronger
MATTERS = 1e-3
SITES = ("encoder on source", "decoder on target", "decoder on source")


@QUESTIONS.register("encoder-vs-decoder-attention")
class EncoderVsDecoderAttention(Question):
    """Who depends on whom, by changing one token at a time; what feeds each attention, by tracing; prefixes read anew."""

    topic = "attention"
    title = Text(
        en="How do the attentions of encoder and decoder differ in structure, mask and source?",
        zh="编码器与解码器的注意力在结构、遮挡和数据来源上有何不同？",
    )
    sources = (
        Source("000", "16"),
        Source("002", "2.3"),
        Source("002", "2.3(1)"),
        Source("002", "2.3(2)"),
        Source("003", "I.16"),
        Source("003", "IV.2"),
    )
    claims = (
        Claim(
            "one-and-two",
            Text(
                en="An encoder layer has one multi-head attention; a decoder layer has two, the first of them masked.",
                zh="编码器层有一个多头注意力；解码器层有两个，其中第一个带遮挡。",
            ),
            Source("002", "2.3(1)"),
        ),
        Claim(
            "only-training",
            Text(
                en="The decoder's self-attention hides the future during training.",
                zh="解码器自注意力在训练时需要遮住后面的词。",
            ),
            Source("000", "16"),
            note=Text(en="Whether it is needed after training is not said.", zh="没有说明训练之后是否还需要。"),
        ),
        Claim(
            "queries",
            Text(
                en="In the decoder's second attention keys and values come from the encoder, queries from the decoder block before.",
                zh="解码器第二个注意力的键和值来自编码器，查询来自前一个解码器块。",
            ),
            Source("002", "2.3(2)"),
        ),
    )
    prediction = Text(
        en="The encoder sees all of the source, the decoder's first attention only what came before, its second all of the source. The mask "
        "is also needed when a prefix is read anew at inference. Queries of the second come from the first attention of the same block.",
        zh="编码器看到整个源句；解码器第一个注意力只看前文，第二个看整个源句。推理时若重新读前缀，同样需要遮挡。第二个注意力的查询来自同一块中的第一个注意力。",
    )
    criterion = Text(
        en="one-and-two: supported if a layer has these attentions, forbidden dependences are exactly 0 and allowed ones above 1e-8. "
        "only-training: depends if leaving the mask out of a prefix that is read anew changes outputs by more than 0.001, else supported. "
        "queries: depends if what feeds the queries is the output of the same block's first sub-layer, bit for bit, and the keys and values "
        "come from the encoder: then they come from the block before only by way of that sub-layer; supported if it is the output of the block "
        "before; else refuted.",
        zh="一与二：若各层确有这些注意力，且不允许的依赖恰为 0、允许的大于 1e-8，则成立。训练：若重新读前缀时去掉遮挡使输出改变超过 0.001，则视情况而定，"
        "否则成立。查询：若查询的输入与同一块第一个子层的输出逐位相同，且键和值来自编码器，则视情况而定（前一块只经由该子层间接提供查询）；若等于前一块的输出，则成立；否则不成立。",
    )
    parts = ("clearhead.model.attention.multihead:SelfAttention", "clearhead.model.attention.multihead:CrossAttention")
    references = ("Vaswani et al., 2017, arXiv:1706.03762, sections 3.1 and 3.2.3",)

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=2, full=10):
            yield {"seed": seed}

    @torch.no_grad()
    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        changes = {"encoder_layers": 1, "decoder_layers": 2, "residual": "post"}
        model = build(encoder_decoder(VOCAB, changes), seed).double().eval()
        source, target = torch.randint(1, VOCAB - 1, (2, 1, LENGTH), generator=torch.Generator().manual_seed(seed))
        yield from _dependences(model, source, target)
        yield {"part": "structure", **_structure(model)}
        yield {"part": "trace", **_trace(model, source, target)}
        memory = model.encode(source)
        right = model.decode(target, memory)[:, :-1]
        for name, mask in (("with", CAUSAL), ("without", OPEN)):
            anew = torch.cat(
                [model.decode(target[:, : t + 1], memory, mask=mask)[:, -1:] for t in range(LENGTH - 1)], 1
            )
            yield {"part": "prefix", "mask": name, "change": float((right - anew).abs().max())}

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        pairs = rows.where(part="dependence")
        hidden, seen = max(pairs.column("change", allowed=False)), min(pairs.column("change", allowed=True))
        structure = rows.where(part="structure")[0]
        shape = (structure["encoder"], structure["decoder_self"], structure["decoder_cross"]) == (1, 1, 1)
        anew = min(rows.column("change", part="prefix", mask="without"))
        masked = max(rows.column("change", part="prefix", mask="with"))
        trace = rows.where(part="trace")
        same, before = max(trace.column("from_same_block")), min(trace.column("from_block_before"))
        keys = max(trace.column("keys_from_encoder"))
        depends = same == 0.0 and keys == 0.0 and before > 0.0
        return {
            "one-and-two": Judgement(
                Verdict.SUPPORTED if shape and hidden == 0.0 and seen > SEEN else Verdict.REFUTED,
                Text(
                    en=f"Forbidden dependences are at most {hidden:g}, allowed ones at least {seen:.1g}.",
                    zh=f"不允许的依赖最大为 {hidden:g}，允许的依赖最小为 {seen:.1g}。",
                ),
            ),
            "only-training": Judgement(
                Verdict.DEPENDS if anew > MATTERS else Verdict.SUPPORTED,
                Text(
                    en=f"When prefixes are read anew without the mask, outputs change by at least {anew:.2g}; with it, by at most {masked:.1g}.",
                    zh=f"重新读前缀时，不带遮挡，输出至少改变 {anew:.2g}；带遮挡，至多改变 {masked:.1g}。",
                ),
            ),
            "queries": Judgement(
                Verdict.DEPENDS if depends else Verdict.SUPPORTED if before == 0.0 else Verdict.REFUTED,
                Text(
                    en=f"What feeds the queries differs by {same:g} from the first sub-layer of the same block and by {before:.2g} from "
                    f"the block before; keys and values differ by {keys:g} from the encoder's output.",
                    zh=f"查询的输入与同一块第一个子层的输出相差 {same:g}，与前一块的输出相差 {before:.2g}；"
                    f"键和值的输入与编码器输出相差 {keys:g}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        anew = min(rows.column("change", part="prefix", mask="without"))
        return Answer(
            short=Text(
                en="Each encoder layer has one attention, over the whole source. Each decoder layer has two: one over the target up to the current "
                "token, and one whose queries come from the target and whose keys and values come from the encoder. The mask "
                f"belongs to the model, not to training alone: reading prefixes anew without it changes outputs by at least {anew:.2g}.",
                zh="每个编码器层有一个注意力，覆盖整个源句。每个解码器层有两个：一个覆盖目标句到当前词为止的部分，另一个的查询来自目标句、键和值来自编码器。"
                f"遮挡属于模型本身而不只属于训练：不带遮挡地重新读前缀，输出至少改变 {anew:.2g}。",
            ),
            imprecise=Text(
                en="Queries of the second attention come from the first attention of the same block, after addition and norm, not from the block "
                "before. With a cache and one new query the mask has nothing left to hide.",
                zh="第二个注意力的查询来自同一块的第一个注意力（相加并归一化之后），而不是前一块。带缓存、只有一个新查询时，遮挡已无可遮。",
            ),
            limits=Text(
                en=f"Untrained models of 1 + 2 layers, post-norm, {len(rows.distinct('seed'))} seed(s), float64.",
                zh=f"未训练的 1 + 2 层后归一化模型，{len(rows.distinct('seed'))} 个随机种子，float64。",
            ),
            caption=Text(
                en="Which output (row) changes with which token (column): dark = it depends.",
                zh="哪个输出（行）随哪个词（列）改变：深色表示依赖。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, axes = panels(3, width=3.1, height=3.2)
        seed = rows[0]["seed"]
        for place, (panel, site) in enumerate(zip(axes, SITES, strict=True)):
            table = rows.where(part="dependence", site=site, seed=seed)
            seen = [[float(table.one("change", output=o, token=t) > 0) for t in range(LENGTH)] for o in range(LENGTH)]
            panel.imshow(seen, cmap="Greys", vmin=0, vmax=1.4)
            panel.grid(visible=False)
            label(panel, x="changed token", y="output" if place == 0 else "", title=site)
        return figure


def _dependences(model: Transformer, source: Tensor, target: Tensor) -> Iterable[Row]:
    """How much each output changes when one token becomes another."""

    def encoded(tokens: Tensor) -> Tensor:
        return model.encode(tokens).hidden

    def decoded(tokens: Tensor) -> Tensor:
        return model.decode(tokens, model.encode(source))

    def translated(tokens: Tensor) -> Tensor:
        return model.decode(target, model.encode(tokens))

    for site, compute, tokens in zip(SITES, (encoded, decoded, translated), (source, target, source), strict=True):
        before = compute(tokens)
        for token in range(LENGTH):
            changed = tokens.clone()
            changed[:, token] += 1
            change = (compute(changed) - before).abs().amax(dim=(0, 2))  # (length,)
            for output in range(LENGTH):
                allowed = site != SITES[1] or token <= output
                yield {
                    "part": "dependence",
                    "site": site,
                    "output": output,
                    "token": token,
                    "allowed": allowed,
                    "change": float(change[output]),
                }


def _structure(model: Transformer) -> Row:
    """Attentions of one layer of each side."""
    first, second = (list(model.get_submodule(f"{side}.blocks.0").modules()) for side in ("encoder", "decoder"))
    return {
        "encoder": sum(isinstance(each, SelfAttention | CrossAttention) for each in first),
        "decoder_self": sum(isinstance(each, SelfAttention) for each in second),
        "decoder_cross": sum(isinstance(each, CrossAttention) for each in second),
    }


def _trace(model: Transformer, source: Tensor, target: Tensor) -> Row:
    """How far the inputs of the last block's second attention are from what could have fed them; 0 = the same bits."""
    seen: dict[str, Tensor] = {}
    places = {"block before": "decoder.blocks.0", "first": "decoder.blocks.1.attention_residual"}
    cross = model.get_submodule("decoder.blocks.1.cross")
    hooks = [
        model.get_submodule(place).register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, o))
        for name, place in places.items()
    ]
    hooks.append(cross.register_forward_hook(lambda m, i, o: seen.update(queries=i[0], memory=i[1].hidden)))
    memory = model.encode(source)
    model.decode(target, memory)
    for each in hooks:
        each.remove()
    return {
        "from_same_block": float((seen["queries"] - seen["first"]).abs().max()),
        "from_block_before": float((seen["queries"] - seen["block before"]).abs().max()),
        "keys_from_encoder": float((seen["memory"] - memory.hidden).abs().max()),
    }
