"""May an attention score be read as the relevance of one token to another?"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import isfinite

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.data.synthetic import Samples
from clearhead.lab.parts.lookup import SURE, enough, knowing, lookup, reader
from clearhead.lab.pictures import bars, label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval, separation, spearman
from clearhead.lab.training import examples, logits, score, trained
from clearhead.model import CAUSAL, AttentionMask, Transformer
from clearhead.model.attention.cosine import Cosine
from clearhead.model.attention.dot import Dot
from clearhead.model.recorder import recording

LAYERS = (1, 2)  # of the models; one alone cannot find the answer
TELLS, AGREES = 0.95, 0.5  # area under the curve and correlation from which on a weight counts as relevance
LONGER = (1, 2, 4, 8)  # times the length of one key
TEXTS = 64

OPENING = {
    Verdict.DEPENDS: Text(en="It depends on the layer. ", zh="要看是哪一层。"),
    Verdict.SUPPORTED: Text(en="Here it may, in each layer. ", zh="在这里每一层都可以。"),
    Verdict.REFUTED: Text(en="Not here. ", zh="在这里不可以。"),
    Verdict.INCONCLUSIVE: Text(en="Too few models learned the task. ", zh="学会任务的模型太少。"),
}


@QUESTIONS.register("score-measures-relevance")
class ScoreMeasuresRelevance(Question):
    """A lookup whose relevant token is known: weights against it, and against what happens when tokens are hidden."""

    topic = "attention"
    title = Text(
        en="May an attention score be read as the relevance of one word to another?",
        zh="注意力分数能当作词与词的相关程度来解读吗？",
    )
    sources = (Source("003", "IV.14"), Source("000", "3"))
    claims = (
        Claim(
            "relevance",
            Text(en="The score measures how relevant words are to each other.", zh="打分衡量词与词之间的相关程度。"),
            Source("003", "IV.14"),
            note=Text(en="A premise of the question.", zh="这是提问中隐含的前提。"),
        ),
        Claim(
            "direction",
            Text(en="The dot product measures how well two directions agree.", zh="点积衡量两个向量方向的一致程度。"),
            Source("000", "3"),
            note=Text(en="It is also proportional to both lengths.", zh="它还与两个向量的长度成正比。"),
        ),
    )
    prediction = Text(
        en="In the layer that looks the answer up, the asked value gets the largest weight and hiding it changes "
        "the answer most. In the layer below, the last token's weights say nothing about it, although the model "
        "needs that layer; nor do they in a model of one layer, which cannot do the task. A longer key rises in "
        "rank by dot product, not by cosine.",
        zh="在查找答案的那一层，被问的值得到最大权重，遮住它对答案影响最大。下面一层中最后一个 token 的权重与之无关"
        "，尽管模型离不开那一层；只有一层的模型做不到这个任务，其权重也说明不了什么。把键加长，点积的排名会上升，余"
        "弦的排名不变。",
    )
    criterion = Text(
        en="A layer passes if in the mean over seeds its weights from the last token tell the asked value from "
        "others with an area under the curve of at least 0.95 and correlate (Pearson) by at least 0.5 with the "
        "change of the answer when a token is hidden; ranks would not do, since a perfect reader of one token in "
        "eight gets 1/3 by Spearman. relevance: over the models of two layers with over 95 % right, depends if one layer "
        "passes and another fails, supported if all pass, refuted if none; inconclusive if fewer than four of five "
        "came so far. direction: "
        "refuted if making a key longer moves its rank by dot product and not by cosine, else supported.",
        zh="某一层通过的条件：对各种子取平均，最后一个 token 给出的权重区分被问的值与其他 token 的 AUC 不低于 0.95，"
        "且与遮住某个 token 时答案的变化（Pearson 相关；八个 token 中只有一个相关时，完美的读者按 Spearman 也只有约 "
        "1/3）不低于 0.5。relevance：只看正确率超过 95% 的两层模型，有的层通过而有的层不通过，则视情况而定；全部通过则成"
        "立，全不通过则不成立；这样的模型不到五分之四则尚无定论。direction：加长一个键会改变点积的排名而不改变余弦的排名，则不成立"
        "，否则成立。",
    )
    parts = (
        "clearhead.model.recorder:recording",
        "clearhead.model.attention.dot:Dot",
        "clearhead.model.attention.cosine:Cosine",
    )
    references = (
        "Jain and Wallace, 2019, arXiv:1902.10186",
        "Wiegreffe and Pinter, 2019, arXiv:1908.04626",
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2.1",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        updates = scale.pick(quick=40, full=SURE.updates)
        for seed in scale.seeds(quick=1, full=5):
            yield {"part": "lengths", "seed": seed}
            for layers in LAYERS:
                yield {"part": "model", "layers": layers, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        if cell["part"] == "lengths":
            return _lengths(seed)
        return _model(int(cell["layers"] or 0), int(cell["updates"] or 0), seed)

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        deep, models = _deep(rows), rows.where(part="model", layers=2, layer=2)
        passed = [_passes(deep.where(layer=each)) for each in deep.distinct("layer")]
        verdict = (
            Verdict.DEPENDS
            if any(passed) and not all(passed)
            else Verdict.SUPPORTED
            if all(passed)
            else Verdict.REFUTED
        )
        told = "; ".join(_told(deep.where(layer=each), each) for each in deep.distinct("layer"))
        told_zh = "；".join(_told_zh(deep.where(layer=each), each) for each in deep.distinct("layer"))
        dot, cosine = (_moved(rows, each) for each in ("dot", "cosine"))
        return {
            "relevance": Judgement(
                verdict if enough(models) else Verdict.INCONCLUSIVE,
                Text(
                    en=f"{len(knowing(models))} of {len(models)} models of two layers learned the lookup: {told}.",
                    zh=f"{len(models)} 个两层模型中有 {len(knowing(models))} 个学会了查找：{told_zh}。",
                ),
            ),
            "direction": Judgement(
                Verdict.REFUTED if dot > 0 and cosine == 0 else Verdict.SUPPORTED,
                Text(
                    en=f"Making a key {LONGER[-1]} times longer moves it by {dot:.1f} ranks of 32 by dot product, "
                    f"by {cosine:.1f} by cosine.",
                    zh=f"把一个键加长到 {LONGER[-1]} 倍，点积排名（共 32 名）平均移动 {dot:.1f} 名，余弦移动 "
                    f"{cosine:.1f} 名。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        deep, shallow = _deep(rows), rows.where(part="model", layers=1)
        last, below = deep.where(layer=2), deep.where(layer=1)
        verdict = self.judge(rows)["relevance"].verdict
        needed = last.mean("accuracy") - below.mean("accuracy_blind")
        return Answer(
            short=Text(
                en=f"{OPENING[verdict].en}A score says what a head reads there, not what the answer rests on. In "
                f"the layer that looks the answer up, weights tell the asked value with an area under the curve of "
                f"{last.mean('area'):.2f}; in the layer below, {below.mean('area'):.2f}, though without what that "
                f"layer reads {needed:.0%} of the answers are lost. A model of one layer gets "
                f"{shallow.mean('accuracy'):.0%} right and its weights {shallow.mean('area'):.2f}.",
                zh=f"{OPENING[verdict].zh}打分说明某个头在该层读了什么，而不是答案依据什么。在查找答案的那一层，权重"
                f"识别被问的值的 AUC 为 {last.mean('area'):.2f}；下面一层只有 {below.mean('area'):.2f}，可是若该层什"
                f"么都读不到，正确率会下降 {needed:.0%}。只有一层的模型正确率 {shallow.mean('accuracy'):.0%}，其权重"
                f"的 AUC 为 {shallow.mean('area'):.2f}。",
            ),
            imprecise=Text(
                en="A token of a deeper layer is no longer the word that stood there: it holds what earlier layers "
                "brought. And a dot product is length times length times cosine, so a long key can beat a better "
                "aligned one.",
                zh="更深层的 token 已不是原来的那个词，而是带着前面各层搬来的内容。点积等于两个长度与夹角余弦之积，"
                "因此长的键可能胜过方向更一致的键。",
            ),
            limits=Text(
                en=f"One task with a known answer, one head of width 32 in a layer, {len(deep.distinct('seed'))} "
                f"seeds; language is less clear-cut.",
                zh=f"仅一个答案已知的任务，每层一个宽度为 32 的头，{len(deep.distinct('seed'))} 个种子；真实语言不会"
                f"如此分明。",
            ),
            caption=Text(
                en="Left: how well weights tell the asked value (0.5 = not at all). Middle: their correlation with "
                "the effect of hiding a token. Right: rank of a key that is made longer.",
                zh="左：权重识别被问的值的能力（0.5 表示毫无能力）。中：权重与遮住 token 的影响之间的相关。右：键加"
                "长后的排名。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (left, middle, right) = panels(3, width=3.3)
        rows = Rows([*rows.where(part="lengths"), *rows.where(part="model", layers=1), *_deep(rows)])
        places = [(layers, layer) for layers in LAYERS for layer in range(1, layers + 1)]
        names = [f"layer {layer}\nof {layers}" for layers, layer in places]
        for axes, column, limit in ((left, "area", TELLS), (middle, "agreement", AGREES)):
            values = [interval(rows.column(column, layers=layers, layer=layer)) for layers, layer in places]
            bars(axes, names, values)
            threshold(axes, limit, "needed")
            axes.legend(fontsize=8)
        for place, kind in enumerate(("dot", "cosine")):
            line(right, LONGER, [rows.mean("rank", kind=kind, longer=each) for each in LONGER], kind, place)
        right.legend(fontsize=8)
        label(left, x="", y="area under the curve")
        label(middle, x="", y="correlation with effect")
        label(right, x="times its length", y="mean distance from the middle rank")
        return figure


def _deep(rows: Rows) -> Rows:
    """The rows of the models of two layers that learned the lookup; of all of them, where none did."""
    deep = rows.where(part="model", layers=2)
    seeds = knowing(deep.where(layer=2))
    return Rows(each for each in deep if each["seed"] in seeds) if seeds else deep


@torch.no_grad()
def _lengths(seed: int) -> Iterable[Row]:
    """How far from the middle a key ranks among 32 for random queries, as it is made longer."""
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(1, 1, 500, 16, generator=generator), torch.randn(1, 1, 32, 16, generator=generator)
    for kind, kernel in (("dot", Dot(1, 16, 0.0)), ("cosine", Cosine(1, 16, 0.0))):
        first = _ranks(kernel.scores(query, key))
        for longer in LONGER:
            ranks = _ranks(kernel.scores(query, torch.cat([longer * key[:, :, :1], key[:, :, 1:]], dim=2)))
            yield {
                "kind": kind,
                "longer": longer,
                "rank": float((ranks - 15.5).abs().mean()),
                "moved": float((ranks - first).abs().mean()),
            }


def _ranks(scores: Tensor) -> Tensor:
    """How many keys score above the first one, for each query."""
    return (scores[..., 1:] > scores[..., :1]).sum(dim=-1).double()


def _model(layers: int, updates: int, seed: int) -> Iterable[Row]:
    """For each layer of a trained lookup: its weights from the last token against the truth and against hiding."""
    plan = replace(SURE, updates=updates)
    model = trained(reader({"decoder_layers": layers}), lookup(), plan, seed)
    samples = examples(lookup(), TEXTS, seed, "relevance")
    accuracy, asked, effect = score(model, lookup(), seed).accuracy, _asked(samples), _effects(model, samples)
    with torch.no_grad(), recording(model) as record:
        logits(model, samples)
    for layer in range(layers):
        weights = record[f"decoder.blocks.{layer}.attention"][:, :, -1].mean(dim=1)  # (texts, tokens)
        yield {
            "layer": layer + 1,
            "accuracy": accuracy,
            "area": sum(separation(w.tolist(), a.tolist()) for w, a in zip(weights, asked, strict=True)) / TEXTS,
            "agreement": _agreement(weights, effect, _pearson),
            "rank_agreement": _agreement(weights, effect, spearman),
            "accuracy_blind": _blind(model, layer, seed),
        }


def _asked(samples: Samples) -> Tensor:
    """Where the asked value stands: (texts, tokens) bool."""
    keys, question = samples.tokens[:, 0:-1:2], samples.tokens[:, -1:]
    place = 2 * (keys == question).int().argmax(dim=1) + 1
    return torch.arange(samples.tokens.shape[1]) == place[:, None]


@torch.no_grad()
def _effects(model: Transformer, samples: Samples) -> Tensor:
    """How the distribution of the answer changes when no token sees a given one: (texts, tokens), half the sum of |p - q|."""
    length = samples.tokens.shape[1]
    whole = _answer(model, samples, CAUSAL)
    own = torch.eye(length, dtype=torch.bool)
    hidden = [AttentionMask(allowed=(torch.arange(length) != each) | own) for each in range(length)]
    changes = [(_answer(model, samples, CAUSAL & each) - whole).abs().sum(dim=-1) / 2 for each in hidden]
    return torch.stack(changes, dim=1)


def _answer(model: Transformer, samples: Samples, mask: AttentionMask) -> Tensor:
    """(texts, vocab), the distribution at the last token."""
    return model.logits(model.decode(samples.tokens, mask=mask)[:, -1]).softmax(dim=-1)


def _agreement(weights: Tensor, effect: Tensor, correlation: Callable[[list[float], list[float]], float]) -> float:
    """The mean correlation over texts, the last token left out, since it cannot be hidden from itself."""
    found = [correlation(w.tolist(), e.tolist()) for w, e in zip(weights[:, :-1], effect[:, :-1], strict=True)]
    finite = [each for each in found if isfinite(each)]
    return sum(finite) / len(finite) if finite else 0.0


def _pearson(x: list[float], y: list[float]) -> float:
    """Of values, not of ranks: where one token of eight matters, ranks are made by the seven that do not."""
    return float(torch.corrcoef(torch.tensor([x, y], dtype=torch.float64))[0, 1])


@torch.no_grad()
def _blind(model: Transformer, layer: int, seed: int) -> float:
    """Accuracy when this layer's attention brings nothing."""
    samples = examples(lookup(), 512, seed, "blind")
    attention = model.get_submodule(f"decoder.blocks.{layer}.attention")
    hook = attention.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    try:
        right = _answer(model, samples, CAUSAL).argmax(dim=-1) == samples.labels[:, -1]
    finally:
        hook.remove()
    return float(right.double().mean())


def _passes(layer: Rows) -> bool:
    return layer.mean("area") >= TELLS and layer.mean("agreement") >= AGREES


def _both(layer: Rows) -> tuple[Interval, Interval]:
    return interval(layer.column("area")), interval(layer.column("agreement"))


def _told(rows: Rows, layer: int) -> str:
    area, agreement = _both(rows)
    return f"layer {layer}, area {area}, correlation {agreement} ({rows.mean('rank_agreement'):.2f} by rank)"


def _told_zh(rows: Rows, layer: int) -> str:
    area, agreement = _both(rows)
    return f"第 {layer} 层 AUC {area}，相关 {agreement}（按秩 {rows.mean('rank_agreement'):.2f}）"


def _moved(rows: Rows, kind: str) -> float:
    return rows.mean("moved", kind=kind, longer=LONGER[-1])
