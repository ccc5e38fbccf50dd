"""Is it a problem that a token attends to itself?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.data.synthetic import IGNORED
from clearhead.lab.parts.hidden_words import MASK, hidden_words
from clearhead.lab.pictures import bars, label, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, equivalent, interval
from clearhead.lab.training import Plan, build, encoder, examples, fit, loss_of, task
from clearhead.model import CAUSAL, OPEN, AttentionMask, Transformer
from clearhead.model.attention.dot import Dot
from clearhead.model.position.base import UNRELATED
from clearhead.model.recorder import recording

LENGTH = 16
PROJECTIONS = {"separate": "fused", "shared": {"kind": "shared_qk", "normalise": False}}
DIAGONALS = {"kept": OPEN, "hidden": AttentionMask(own=False)}
DOMINANT = 0.5  # weight on itself that counts as dominant
UNIFORM = 0.2  # and within this share of 1/n as indifferent
HARMLESS = 0.01  # accuracies within one point


@QUESTIONS.register("self-attention-to-self")
class SelfAttentionToSelf(Question):
    """Weight on the diagonal at the start, then denoising with and without it."""

    topic = "attention"
    title = Text(
        en="Is it a problem that a token attends to itself, and what if the diagonal is hidden?",
        zh="词对自身做注意力会有问题吗？如果遮住对角线会怎样？",
    )
    sources = (Source("003", "IV.17"), Source("000", "2"))
    claims = (
        Claim(
            "problem",
            Text(
                en="Attention of a word to itself is a problem that needs a remedy.",
                zh="词对自身的注意力是一个需要解决的问题。",
            ),
            Source("003", "IV.17"),
        ),
        Claim(
            "harmless",
            Text(
                en="Hiding the diagonal costs nothing where a residual carries the token anyway.",
                zh="有残差直接传递该词时，遮住对角线没有代价。",
            ),
            Source("003", "IV.17"),
            note=Text(
                en="The remedy that comes to mind; the question itself names none.",
                zh="这是最容易想到的办法；原题没有给出办法。",
            ),
        ),
    )
    prediction = Text(
        en="Only with one matrix for queries and keys does the diagonal dominate, by Cauchy-Schwarz. With separate ones it starts at about 1/n. "
        "Hiding it costs little with a residual. The first token of a causal model has no other key and needs a rule.",
        zh="只有查询与键共用一个矩阵时，对角线才会占优（柯西不等式）。分开时起初约为 1/n。有残差时遮住它代价很小。因果模型的第一个词没有别的键，需要另行约定。",
    )
    criterion = Text(
        en="problem: depends if the mean weight on itself at the start is above 0.5 with shared projections and within 20 % of 1/n with separate "
        "ones; supported if above 0.5 with both; refuted if with neither; else inconclusive. harmless: supported if accuracies with and without the diagonal "
        "differ by less than one point (equivalence test) with separate projections and a residual, and the first causal row without its own key is "
        "finite here; refuted if hiding costs more than one point (whole interval); else inconclusive.",
        zh="问题：若起始时共用投影的平均自身权重高于 0.5，而分开投影的在 1/n 的 ±20% 以内，则视情况而定；两者都高于 0.5 则成立；都不高于则不成立；其余为尚无定论。"
        "无代价：若分开投影且有残差时，遮与不遮的正确率相差不到 1 个百分点（等价检验），且因果模型第一行在遮住自身后结果有限，则成立；"
        "代价超过 1 个百分点（整个区间）则不成立；否则尚无定论。",
    )
    parts = (
        "clearhead.model.attention.shared_qk:SharedQK",
        "clearhead.model.mask:AttentionMask",
        "clearhead.model.attention.base:masked_softmax",
    )
    references = (
        "Kitaev, Kaiser and Levskaya, 2020, arXiv:2001.04451, section 2",
        "Shi et al., 2021, arXiv:2102.12871 (SparseBERT)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        yield {"part": "first row"}
        updates = scale.pick(quick=30, full=300)
        for seed in scale.seeds(quick=1, full=4):
            for projections in PROJECTIONS:
                for residual in ("pre", "none"):
                    if projections == "separate" or residual == "pre":
                        for diagonal in DIAGONALS:
                            about = {"projections": projections, "residual": residual, "diagonal": diagonal}
                            yield {"part": "training", **about, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        if cell["part"] == "first row":
            return [_first_row()]
        text, seed = task("pcfg", {"length": LENGTH}), int(cell["seed"] or 0)
        changes = {"projections": PROJECTIONS[str(cell["projections"])], "residual": cell["residual"]}
        model, mask = build(encoder(text.vocab, changes), seed), DIAGONALS[str(cell["diagonal"])]
        before = _own_weight(model, examples(text, 64, seed, "start").tokens)

        def loss(generator: torch.Generator) -> Tensor:
            said, labels = _denoised(model, text.draw(32, generator).tokens, mask, generator)
            return loss_of(said, labels)

        for _ in fit(model, loss, Plan(updates=int(cell["updates"] or 0)), seed):
            pass
        model.eval()
        fresh = examples(text, 1024, seed, "score").tokens
        with torch.no_grad():
            said, labels = _denoised(model, fresh, mask, torch.Generator().manual_seed(seed))
        right = (said.argmax(dim=-1) == labels)[labels != IGNORED]
        return [{"own_weight": before, "loss": float(loss_of(said, labels)), "accuracy": float(right.float().mean())}]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        own = {each: rows.mean("own_weight", projections=each, residual="pre", diagonal="kept") for each in PROJECTIONS}
        indifferent = abs(own["separate"] * LENGTH - 1.0) <= UNIFORM
        cost, finite = _cost(rows), bool(rows.one("finite", part="first row"))
        near, plain = equivalent(_costs(rows), HARMLESS), rows.one("plain_nan", part="first row")
        dominant = [each for each, weight in own.items() if weight > DOMINANT]
        if dominant == ["shared"]:
            problem = Verdict.DEPENDS if indifferent else Verdict.INCONCLUSIVE
        else:
            problem = {0: Verdict.REFUTED, 2: Verdict.SUPPORTED}.get(len(dominant), Verdict.INCONCLUSIVE)
        dear = cost.low > HARMLESS
        harmless = Verdict.SUPPORTED if near and finite else Verdict.REFUTED if dear else Verdict.INCONCLUSIVE
        return {
            "problem": Judgement(
                problem,
                Text(
                    en=f"Mean weight on itself before training: {own['separate']:.3f} with separate projections (1/n = {1 / LENGTH:.3f}), "
                    f"{own['shared']:.3f} with shared ones.",
                    zh=f"训练前对自身的平均权重：分开投影 {own['separate']:.3f}（1/n = {1 / LENGTH:.3f}），共用投影 {own['shared']:.3f}。",
                ),
            ),
            "harmless": Judgement(
                harmless,
                Text(
                    en=f"Accuracy with the diagonal minus without, with a residual: {cost}. A causal first row without its own key is "
                    f"{'finite' if finite else 'not finite'} here; with plain softmax {plain:.0f} of 5 rows are NaN.",
                    zh=f"有残差时，保留对角线减去遮住对角线的正确率：{cost}。因果第一行遮住自身后，本库得到{'有限值' if finite else '非有限值'}；"
                    f"用普通 softmax，5 行中有 {plain:.0f} 行为 NaN。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        own = {each: rows.mean("own_weight", projections=each, residual="pre", diagonal="kept") for each in PROJECTIONS}
        bare = interval(rows.paired("accuracy", {**_BARE, "diagonal": "kept"}, {**_BARE, "diagonal": "hidden"}))
        return Answer(
            short=Text(
                en=f"With separate projections a token starts by giving itself {own['separate']:.3f} of its weight; an equal share for all {LENGTH} would "
                f"be {1 / LENGTH:.3f}. With one matrix for queries and keys it is {own['shared']:.2f}, as a token's query then points the way of its "
                f"own key. Accuracy changes by {-100 * _cost(rows).mean:+.1f} points when the diagonal is hidden in a model with residuals (95 % "
                f"interval {-100 * _cost(rows).high:+.1f} to {-100 * _cost(rows).low:+.1f}) and by {-100 * bare.mean:+.1f} in one without "
                f"({-100 * bare.high:+.1f} to {-100 * bare.low:+.1f}).",
                zh=f"分开投影时，一个词起初给自己 {own['separate']:.3f} 的权重，{LENGTH} 个词平分则为 {1 / LENGTH:.3f}；查询与键共用矩阵时为 "
                f"{own['shared']:.2f}，因为此时一个词的查询与它自己的键同向。遮住对角线后，正确率的变化在有残差的模型中为 "
                f"{-100 * _cost(rows).mean:+.1f} 个百分点（95% 区间 {-100 * _cost(rows).high:+.1f} 到 {-100 * _cost(rows).low:+.1f}），"
                f"没有残差时为 {-100 * bare.mean:+.1f}（{-100 * bare.high:+.1f} 到 {-100 * bare.low:+.1f}）。",
            ),
            imprecise=Text(
                en="Attending to oneself is an option, not a fault: the residual carries the token past attention in any case. The first token of a "
                "causal model can see nothing else, so there the diagonal must stay or the row needs a rule.",
                zh="对自身做注意力只是一个选项，并非缺陷：残差无论如何都会把该词带过注意力。因果模型的第一个词看不到别的，那里必须保留对角线，或为该行另作约定。",
            ),
            limits=Text(
                en=f"Denoising text of a small grammar, 2 layers of width 32, {len(rows.distinct('seed'))} seed(s); shared queries and keys without "
                "the normalisation of keys that Reformer adds, at their usual initial size.",
                zh=f"小语法文本的去噪任务，两层、宽度 32，{len(rows.distinct('seed'))} 个随机种子；查询与键共用时没有 Reformer 中对键的归一化，初始值为通常大小。",
            ),
            caption=Text(
                en="Left: weight of a token on itself before training. Right: accuracy lost by hiding the diagonal; below 0 it is gained.",
                zh="左：训练前对自身的权重。右：遮住对角线损失的正确率，负值为增加。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (start, lost) = panels(2)
        values = [
            interval(rows.column("own_weight", projections=e, residual="pre", diagonal="kept")) for e in PROJECTIONS
        ]
        bars(start, [f"{each} Q and K" for each in PROJECTIONS], values)
        threshold(start, 1 / LENGTH, "1/n")
        start.legend()
        label(start, x="projections", y="weight of a token on itself")
        sides = {
            "with residual": _USUAL,
            "no residual": _BARE,
            "residual,\nshared Q and K": {**_USUAL, "projections": "shared"},
        }
        costs = [
            interval(rows.paired("accuracy", {**s, "diagonal": "kept"}, {**s, "diagonal": "hidden"}))
            for s in sides.values()
        ]
        bars(lost, list(sides), [Interval(100 * e.mean, 100 * e.low, 100 * e.high, e.count) for e in costs])
        label(lost, x="model", y="accuracy lost (points)")
        return figure


_USUAL: Cell = {"part": "training", "projections": "separate", "residual": "pre"}
_BARE: Cell = {"part": "training", "projections": "separate", "residual": "none"}


def _denoised(
    model: Transformer, tokens: Tensor, mask: AttentionMask, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Logits with some words replaced, and the labels of those."""
    hidden = hidden_words(tokens, generator)
    said = model.logits(model.encode(tokens.masked_fill(hidden, MASK), mask=mask).hidden)
    return said, tokens.masked_fill(~hidden, IGNORED)


@torch.no_grad()
def _own_weight(model: Transformer, tokens: Tensor) -> float:
    """The mean weight of a token on itself in the first layer."""
    with recording(model) as record:
        model.encode(tokens)
    return float(record["encoder.blocks.0.attention"].diagonal(dim1=-2, dim2=-1).mean())


def _first_row() -> Row:
    """A causal model whose tokens may not see themselves: the first one sees nothing."""
    query, key, value = torch.randn(3, 1, 1, 5, 8, generator=torch.Generator().manual_seed(0))
    ours = Dot(1, 8, 0.0)(query, key, value, CAUSAL & AttentionMask(own=False), UNRELATED)
    plain = torch.full((5, 5), -torch.inf).triu().add(query[0, 0] @ key[0, 0].T).softmax(dim=-1)
    return {"finite": bool(ours.isfinite().all()), "plain_nan": int(plain.isnan().any(dim=-1).sum())}


def _costs(rows: Rows) -> list[float]:
    return rows.paired("accuracy", {**_USUAL, "diagonal": "kept"}, {**_USUAL, "diagonal": "hidden"})


def _cost(rows: Rows) -> Interval:
    """Accuracy with the diagonal minus without, by seed."""
    return interval(_costs(rows))
