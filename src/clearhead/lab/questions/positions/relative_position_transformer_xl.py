"""How do relative positions enter the scores of Transformer-XL?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.generate import SegmentCache
from clearhead.lab.pictures import COLOURS, label, line, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.training import build, decoder
from clearhead.model import AttentionMask, Transformer
from clearhead.model.position.sinusoidal import waves
from clearhead.model.position.xl import XLLayer

HEADS, D_HEAD, D_MODEL, QUERIES, MEMORY = 2, 8, 32, 16, 8
VOCAB, SEGMENT, SEGMENTS = 17, 4, 6
EXACT = 1e-10
CHECKS = ("loops", "trick", "absolute", "shift", "segments")
TERMS = ("content-content", "content-distance", "global content", "global distance")


@QUESTIONS.register("relative-position-transformer-xl")
class RelativePositionTransformerXL(Question):
    """Four terms by explicit loops, by the relative shift and by the package; then how far back segments with memory see."""

    topic = "positions"
    title = Text(
        en="How does Transformer-XL encode relative positions, and which four terms make up its attention score?",
        zh="Transformer-XL 的相对位置怎样进入打分？分数可以拆成哪四项？",
    )
    sources = (Source("000", "10"), Source("003", "I.10"))
    claims = (
        Claim(
            "pairwise",
            Text(
                en="Relative encoding looks at distances between two tokens only, as in Transformer-XL.",
                zh="相对位置编码只看两个词之间的距离，例如 Transformer-XL。",
            ),
            Source("000", "10"),
            note=Text(
                en="Of the four terms one is pure distance; another joins distance and content.",
                zh="四项中只有一项纯粹取决于距离，另有一项把距离与内容结合起来。",
            ),
        ),
    )
    prediction = Text(
        en="All forms agree to rounding, and shifting all positions changes nothing: positions enter through i - j alone. The part of a score "
        "that comes from the distance differs between queries at the same distance, since it meets their content. With memory the "
        "farthest token that matters lies one segment further back for each layer.",
        zh="各种写法的差别仅为舍入，整体平移位置什么也不改变：位置只通过 i - j 起作用。距离相同时，打分中来自距离的部分因查询而异，因为它要与内容相乘。"
        "有记忆时，每多一层，能影响输出的最远的词就再往前一个段。",
    )
    criterion = Text(
        en="refuted unless, in float64, loops, relative shift, the expansion of absolute scores, shifted positions and cached segments each agree "
        "to 1e-10, and the farthest token that changes an output at the start of a segment is (layers - 1) x segment + memory before it, "
        "exactly, for every size tried. Then depends if the distance part varies with the query at equal distance (standard deviation "
        "above 1 % of its size), so that not distance alone decides; else supported.",
        zh="float64 下，逐项循环、相对移位、绝对打分的展开、位置平移、带缓存的分段，各项差别都不超过 1e-10，且能改变某段开头输出的最远的词恰好在其前"
        "（层数 - 1）×段长 + 记忆长处，否则不成立。满足时，若距离相同而距离部分随查询变化（标准差超过其大小的 1%），即并非只由距离决定，则视情况而定；否则成立。",
    )
    parts = (
        "clearhead.model.position.xl:TransformerXL",
        "clearhead.model.position.xl:XLLayer",
        "clearhead.generate.caches.segment:SegmentCache",
    )
    references = (
        "Dai et al., 2019, arXiv:1901.02860, sections 3.2 and 3.3 and appendix B",
        "Shaw, Uszkoreit and Vaswani, 2018, arXiv:1803.02155",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=2, full=10):
            yield {"part": "exact", "seed": seed}
        for seed in scale.seeds(quick=1, full=3):
            for layers in scale.pick(quick=(1, 2), full=(1, 2, 3, 4)):
                for memory in (SEGMENT, SEGMENT // 2):
                    yield {"part": "reach", "layers": layers, "memory": memory, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        if cell["part"] == "reach":
            return [_reach(int(cell["layers"] or 0), int(cell["memory"] or 0), seed)]
        return [{**_forms(seed), "shift": _shifted(seed), "segments": _segments(seed)}]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        worst = max(max(rows.column(each, part="exact")) for each in CHECKS)
        reach = rows.where(part="reach")
        exact = all(row["reach"] == _expected(row) for row in reach)
        varies = min(rows.column("varies", part="exact"))
        deep = max(reach.distinct("layers"))
        holds = worst <= EXACT and exact
        return {
            "pairwise": Judgement(
                Verdict.REFUTED if not holds else Verdict.DEPENDS if varies > 0.01 else Verdict.SUPPORTED,
                Text(
                    en=f"All forms agree to {worst:.1g}, a shift of all positions included. At equal distance the distance part still varies between queries by at least "
                    f"{varies:.0%} of its size. Reach with {deep} layers and memory {SEGMENT}: {reach.mean('reach', layers=deep, memory=SEGMENT):.0f} tokens "
                    f"({'as' if exact else 'not as'} computed).",
                    zh=f"各种写法（包括整体平移位置）的差别不超过 {worst:.1g}。距离相同时，距离部分仍随查询变化，幅度至少为其大小的 {varies:.0%}。{deep} 层、记忆 {SEGMENT} "
                    f"时能看到前 {reach.mean('reach', layers=deep, memory=SEGMENT):.0f} 个词（与公式{'相符' if exact else '不符'}）。",
                ),
            )
        }

    def answer(self, rows: Rows) -> Answer:
        sizes = {name: rows.mean(name, part="exact") for name in TERMS}
        shown = ", ".join(f"{name} {value:.2f}" for name, value in sizes.items())
        names = dict(zip(TERMS, ("内容与内容", "内容与距离", "全局与内容", "全局与距离"), strict=True))
        reach = rows.where(part="reach")
        deep = max(reach.distinct("layers"))
        return Answer(
            short=Text(
                en="A score has four terms: the query meets the key, the query meets the distance, and two vectors u and v that all queries share meet the "
                "key and the distance. They are the four products of an absolute score, (word + position) against (word + position), with the key's position "
                "replaced by the distance and the query's position by u and v. Besides, each segment reads the keys and values of the one "
                f"before: with {deep} layers and segments of {SEGMENT} tokens outputs depend on up to {reach.mean('reach', layers=deep, memory=SEGMENT):.0f} tokens before "
                "their segment.",
                zh="打分有四项：查询遇到键，查询遇到距离，以及所有查询共用的两个向量 u 和 v 分别遇到键和距离。它们对应绝对打分“（词 + 位置）乘（词 + 位置）”展开的四项，只是把键的"
                f"位置换成距离，把查询的位置换成 u 和 v。此外，每段还读取前一段的键和值：{deep} 层、段长 {SEGMENT} 时，输出最远依赖本段之前 "
                f"{reach.mean('reach', layers=deep, memory=SEGMENT):.0f} 个词。",
            ),
            imprecise=Text(
                en="Positions enter through the distance alone, sign included; the score does not. Two of the four terms know no distance, and one joins distance with the "
                "query's content, so that a word decides which distances it likes.",
                zh="位置只通过带符号的距离起作用，打分却不止于此：四项中两项与距离无关，一项把距离与查询的内容结合，于是每个词可以自己决定偏好什么距离。",
            ),
            limits=Text(
                en=f"Random weights, float64, {QUERIES} queries and {MEMORY} tokens of memory; reach with segments of {SEGMENT} tokens. Standard deviation of each term, with queries, keys, u and v drawn from N(0, 1): {shown}.",
                zh=f"随机权重，float64，{QUERIES} 个查询、{MEMORY} 个记忆词；依赖的远近用段长 {SEGMENT} 测得。查询、键、u、v 都取自标准正态时，各项的标准差："
                + "，".join(f"{names[name]} {value:.2f}" for name, value in sizes.items())
                + "。",
            ),
            caption=Text(
                en="Left: largest error of each way to compute the same (no bar: exactly 0). Right: how far before its segment a token still changes an output.",
                zh="左：各种等价算法的最大误差（没有柱子表示恰为 0）。右：本段之前多远的词仍能改变输出。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (errors, reach) = panels(2, width=4.6)
        values = [max(max(rows.column(each, part="exact")), 1e-17) for each in CHECKS]
        errors.bar(range(len(CHECKS)), values, color=COLOURS[0])
        names = ("loops", "relative\nshift", "absolute\nexpanded", "positions\nshifted", "segments\ncached")
        errors.set_xticks(range(len(CHECKS)), names, fontsize=8)
        errors.set_yscale("log")
        errors.set_ylim(1e-17, 1e-8)
        errors.axhline(EXACT, color="#555555", linestyle="--", linewidth=1.2, label="criterion")
        errors.legend(fontsize=8)
        measured = rows.where(part="reach")
        for place, memory in enumerate(measured.distinct("memory")):
            layers = measured.distinct("layers")
            line(
                reach,
                layers,
                [measured.mean("reach", memory=memory, layers=each) for each in layers],
                f"memory {memory}",
                place,
            )
        reach.set_xticks(measured.distinct("layers"))
        reach.set_ylim(bottom=0)
        reach.legend(fontsize=8)
        label(errors, x="way to compute the same", y="largest error, float64")
        label(reach, x="layers", y="reach before the segment (tokens)", title=f"segments of {SEGMENT} tokens")
        return figure


def _layer(seed: int) -> tuple[XLLayer, Tensor, Tensor]:
    """A block's part with visible u and v, its queries (1, heads, queries, d_head) and keys, memory included."""
    torch.manual_seed(seed)
    layer = XLLayer(D_MODEL, HEADS, D_HEAD, base=1e4).double().requires_grad_(requires_grad=False)
    for each in (layer.content, layer.distance):
        each.normal_()
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(1, HEADS, QUERIES, D_HEAD, generator=generator, dtype=torch.float64)
    return layer, query, torch.randn(1, HEADS, MEMORY + QUERIES, D_HEAD, generator=generator, dtype=torch.float64)


def _forms(seed: int) -> Row:
    """How far loops, the relative shift and absolute scores are from the package, and how large each term is."""
    layer, query, key = _layer(seed)
    here, there = torch.arange(MEMORY, MEMORY + QUERIES)[None], torch.arange(MEMORY + QUERIES)[None]
    bias = layer.relate(query, key, here, there).bias
    assert bias is not None
    ours = D_HEAD**-0.5 * query @ key.mT + bias  # (1, heads, queries, keys)
    terms = _terms(layer, query[0], key[0])  # (4, heads, queries, keys)
    seen = torch.ones(QUERIES, MEMORY + QUERIES).tril(MEMORY).bool()
    return {
        "loops": float((terms.sum(dim=0) - ours[0]).abs().max()),
        "trick": float(((_trick(layer, query[0], key[0]) - ours[0]) * seen).abs().max()),
        "absolute": _absolute(layer, query[0], key[0]),
        "varies": _varies(terms[1] + terms[3]),
        **{name: float(term.std()) for name, term in zip(TERMS, terms, strict=True)},
    }


def _terms(layer: XLLayer, query: Tensor, key: Tensor) -> Tensor:
    """The four terms by loops over heads, queries and keys."""
    found = torch.zeros(4, HEADS, QUERIES, MEMORY + QUERIES, dtype=torch.float64)
    for head in range(HEADS):
        map_ = layer.project.weight[head * D_HEAD : (head + 1) * D_HEAD]  # W_R of the head
        for i in range(QUERIES):
            for j in range(MEMORY + QUERIES):
                distance = map_ @ waves(torch.tensor([MEMORY + i - j]), D_MODEL, 1e4, "halves")[0]
                q, k = query[head, i], key[head, j]
                pairs = ((q, k), (q, distance), (layer.content[head], k), (layer.distance[head], distance))
                found[:, head, i, j] = torch.stack([one @ other for one, other in pairs])
    scaled: Tensor = D_HEAD**-0.5 * found
    return scaled


def _trick(layer: XLLayer, query: Tensor, key: Tensor) -> Tensor:
    """The relative shift of appendix B: scores of all distances, each row moved by one more; right where j <= i."""
    keys = MEMORY + QUERIES
    states = layer.states(torch.arange(keys - 1, -1, -1), torch.float64)  # (heads, keys, d_head), farthest first
    by_distance = (query + layer.distance[:, None]) @ states.mT  # (heads, queries, keys)
    padded = torch.cat([by_distance.new_zeros(HEADS, QUERIES, 1), by_distance], dim=2)
    shifted = padded.view(HEADS, keys + 1, QUERIES)[:, 1:].reshape(HEADS, QUERIES, keys)
    scores: Tensor = D_HEAD**-0.5 * ((query + layer.content[:, None]) @ key.mT + shifted)
    return scores


def _absolute(layer: XLLayer, query: Tensor, key: Tensor) -> float:
    """Absolute scores (q_i + p_i) . (k_j + W_R p_j) are the package's, if u = v = p_i and p_j stands in place of the distance."""
    places = torch.arange(MEMORY + QUERIES)
    states = layer.states(places, torch.float64)  # W_R p_j, (heads, keys, d_head)
    worst = 0.0
    for i in range(QUERIES):
        place = states.flip(1)[:, i]  # stands for W_Q p_i
        layer.content.copy_(place)
        layer.distance.copy_(place)
        one = query[None, :, i : i + 1]
        bias = layer.relate(one, key[None], torch.zeros(1, 1, dtype=torch.long), -places[None]).bias
        assert bias is not None
        four = D_HEAD**-0.5 * one[0] @ key.mT + bias[0]
        absolute = D_HEAD**-0.5 * (one[0] + place[:, None]) @ (key + states).mT
        worst = max(worst, float((four - absolute).abs().max()))
    return worst


def _varies(part: Tensor) -> float:
    """How much the distance part (heads, queries, keys) varies between queries at equal distance, as a share of its size."""
    diagonals = [part.diagonal(offset=each, dim1=1, dim2=2) for each in range(MEMORY + 1)]  # queries of one distance
    return float(torch.stack([each.std(dim=-1).mean() for each in diagonals]).mean() / part.std())


def _small(layers: int, seed: int) -> tuple[Transformer, Tensor]:
    model = build(decoder(VOCAB, {"decoder_layers": layers, "position": "xl"}), seed).double().eval()
    return model, torch.randint(1, VOCAB, (1, SEGMENT * SEGMENTS), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def _shifted(seed: int) -> float:
    """What a shift of all positions changes in a model's output."""
    model, tokens = _small(2, seed)
    here = torch.arange(tokens.shape[1])[None]
    return float((model.decode(tokens, positions=here + 1000) - model.decode(tokens, positions=here)).abs().max())


@torch.no_grad()
def _cached(model: Transformer, tokens: Tensor, memory: int) -> Tensor:
    """Outputs segment by segment, each with the memory of those before."""
    cache, found = SegmentCache(model.config.decoder_layers, memory), []
    for start in range(0, tokens.shape[1], SEGMENT):
        here = torch.arange(start, start + SEGMENT)[None]
        found.append(model.decode(tokens[:, start : start + SEGMENT], positions=here, cache=cache))
    return torch.cat(found, dim=1)


@torch.no_grad()
def _segments(seed: int) -> float:
    """How far cached segments are from one pass over the whole text whose mask allows the same keys."""
    model, tokens = _small(3, seed)
    slot = torch.arange(tokens.shape[1])
    start = slot // SEGMENT * SEGMENT
    allowed = (slot <= slot[:, None]) & (slot >= start[:, None] - SEGMENT)
    whole = model.decode(tokens, mask=AttentionMask(allowed=allowed[None, None]))
    return float((_cached(model, tokens, SEGMENT) - whole).abs().max())


def _reach(layers: int, memory: int, seed: int) -> Row:
    """Change each token in turn: how far before the last segment does one still change its first output?"""
    model, tokens = _small(layers, seed)
    first = SEGMENT * (SEGMENTS - 1)
    plain, felt = _cached(model, tokens, memory)[:, first], []
    for place in range(first):
        changed = tokens.clone()
        changed[:, place] = changed[:, place] % (VOCAB - 1) + 1
        if not torch.equal(_cached(model, changed, memory)[:, first], plain):
            felt.append(first - place)
    return {"reach": max(felt, default=0)}


def _expected(row: Row) -> int:
    return (int(row["layers"] or 0) - 1) * SEGMENT + int(row["memory"] or 0)
