"""What are the separate jobs of query, key and value?"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import exp

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.data.synthetic import Samples
from clearhead.lab.parts.lookup import SURE, enough, knowing, lookup, reader
from clearhead.lab.pictures import bars, label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.training import examples, logits, trained
from clearhead.model import OPEN, Transformer
from clearhead.model.attention.dot import Dot
from clearhead.model.attention.heads import attentions
from clearhead.model.position.base import UNRELATED
from clearhead.model.recorder import recording

SLOTS = 16  # entries of the hand-built dictionary
SHARP = (1, 2, 4, 8, 16)  # length of its queries
EXACT = 1e-6
LAST = "decoder.blocks.1.attention"  # the layer that looks the answer up

Change = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]  # query, key, value, order of keys
CHANGES: Mapping[str, Change] = {
    "V of another text": lambda q, k, v, order: (q, k, v.roll(1, 0)),
    "Q of another text": lambda q, k, v, order: (q.roll(1, 0), k, v),
    "K and V permuted": lambda q, k, v, order: (q, k[:, :, order], v[:, :, order]),
    "K permuted": lambda q, k, v, order: (q, k[:, :, order], v),
}


@QUESTIONS.register("qkv-roles")
class QkvRoles(Question):
    """A dictionary built by hand with a known answer, then one of the three changed inside a trained model."""

    topic = "attention"
    title = Text(
        en="What are the separate jobs of query, key and value?",
        zh="查询、键、值各自承担什么职责？",
    )
    sources = (Source("003", "IV.13"),)
    claims = (
        Claim(
            "jobs",
            Text(en="Q, K and V have jobs that can be told apart.", zh="Q、K、V 的职责可以区分开来。"),
            Source("003", "IV.13"),
            note=Text(
                en="A premise: Q and K decide where to read, V what is carried away.",
                zh="隐含的前提：Q 与 K 决定读哪里，V 决定取走什么。",
            ),
        ),
    )
    prediction = Text(
        en="The weight on the right slot follows its formula. In a trained lookup, new values leave every weight as "
        "it was and change the answer; new queries change weights and answer; keys and values permuted together "
        "change nothing; keys permuted alone make the model read the wrong place, so less than half of the answers "
        "are right.",
        zh="正确槽位的权重符合公式。在训练好的查表模型中，只换值时所有权重不变而答案改变；只换查询时权重与答案都变；键"
        "与值一起置换则毫无变化；只置换键会让模型读错位置，正确率不到一半。",
    )
    criterion = Text(
        en="Supported if in every run the weight equals e^b / (e^b + n - 1) to 1e-6, changing V alone leaves the "
        "weights identical bit for bit, permuting K and V together changes the output by less than 1e-6 of its "
        "size, and permuting K alone takes every model with over 95 % right below 50 %, four of five models at least "
        "having come so far; refuted if one of the first three fails; inconclusive if too few models learned.",
        zh="每次运行中，权重与 e^b / (e^b + n - 1) 相差不超过 1e-6，只换 V 时权重逐位相同，K 与 V 一起置换时输出变化小"
        "于其大小的 1e-6，且至少五分之四的模型正确率超过 95%，只置换 K 使它们都降到 50% 以下，则成立；前三项有一项不满足"
        "则不成立；学会的模型太少则尚无定论。",
    )
    parts = ("clearhead.model.attention.dot:Dot", "clearhead.model.attention.base:mixed")
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2",
        "Elhage et al., 2021, A Mathematical Framework for Transformer Circuits (QK and OV circuits)",
        "Ramsauer et al., 2021, arXiv:2008.02217 (attention as retrieval)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        updates = scale.pick(quick=100, full=SURE.updates)
        for seed in scale.seeds(quick=1, full=5):
            yield {"part": "dictionary", "seed": seed}
            yield {"part": "trained", "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        return _dictionary(seed) if cell["part"] == "dictionary" else _interventions(int(cell["updates"] or 0), seed)

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        off = max(abs(row["weight"] - row["expected"]) for row in rows.where(part="dictionary"))  # type: ignore[operator]
        routed = max(rows.column("weights_moved", change="V of another text"))
        joint = max(rows.column("output_moved", change="K and V permuted"))
        models, known = rows.where(change="nothing"), _of_those_that_know(rows)
        right, broken = (
            min(known.column("accuracy", change="nothing")),
            max(known.column("accuracy", change="K permuted")),
        )
        exact = off <= EXACT and routed == 0 and joint < EXACT
        shown = Verdict.SUPPORTED if enough(models) and broken < 0.5 else Verdict.INCONCLUSIVE
        return {
            "jobs": Judgement(
                shown if exact else Verdict.REFUTED,
                Text(
                    en=f"The weight is off its formula by {off:.1g}; new values move the weights by {routed:.1g}; K "
                    f"and V permuted together move the output by {joint:.1g}; {len(knowing(models))} of {len(models)} "
                    f"models learned the lookup, and K permuted alone leaves at most {broken:.0%} right of "
                    f"{right:.0%}.",
                    zh=f"权重与公式相差 {off:.1g}；只换值时权重变化 {routed:.1g}；K 与 V 一起置换时输出变化 "
                    f"{joint:.1g}；{len(models)} 个模型中有 {len(knowing(models))} 个学会了查表，只置换 K 后，正确率"
                    f"从 {right:.0%} 降到至多 {broken:.0%}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        known = _of_those_that_know(rows)
        right = {each: known.mean("accuracy", change=each) for each in ("nothing", *CHANGES)}
        still, moved = (known.mean("weights_moved", change=f"{each} of another text") for each in ("V", "Q"))
        sharp = {each: rows.mean("weight", sharpness=each) for each in (SHARP[0], SHARP[-2])}
        return Answer(
            short=Text(
                en=f"Query and key decide where to read, the value what is carried away: a dictionary whose answer "
                f"is a weighted mean. With a query of length {SHARP[0]} the right one of {SLOTS} slots gets "
                f"{sharp[SHARP[0]]:.0%} of the weight, with length {SHARP[-2]} {sharp[SHARP[-2]]:.1%}. In a trained "
                f"model {right['nothing']:.0%} of the answers are right; with values of another text "
                f"{right['V of another text']:.0%}, weights moved by {still:.1g} in sum; with queries of another text "
                f"{right['Q of another text']:.0%}, weights moved by {moved:.2f}.",
                zh=f"查询与键决定读哪里，值决定取走什么：这像一本字典，答案是加权平均。查询长度为 {SHARP[0]} "
                f"时，{SLOTS} 个槽位中正确者得到 {sharp[SHARP[0]]:.0%} 的权重，长度为 {SHARP[-2]} 时得到 "
                f"{sharp[SHARP[-2]]:.1%}。训练好的模型正确率 {right['nothing']:.0%}；换成另一段文本的值后为 "
                f"{right['V of another text']:.0%}，权重变化之和为 {still:.1g}；换成另一段文本的查询后为 "
                f"{right['Q of another text']:.0%}，权重变化 {moved:.2f}。",
            ),
            imprecise=Text(
                en="The jobs are clear inside one head. Q and K cannot be told from each other by the score, which "
                "is their product; across layers what a value carries becomes part of later queries and keys.",
                zh="职责在单个头内部是清楚的。打分是 Q 与 K 的乘积，仅凭打分无法区分两者；跨层来看，值所携带的内容又会"
                "进入后面的查询与键。",
            ),
            limits=Text(
                en="Changes are made in the last of two layers and judged at the last token, which sees all others; "
                f"{len(rows.distinct('seed'))} seeds.",
                zh=f"改动只在两层中的最后一层进行，并只看能看到全部内容的最后一个 token；{len(rows.distinct('seed'))} "
                f"个种子。",
            ),
            caption=Text(
                en="Left: weight on the right slot of a hand-built dictionary, and its formula. Right: answers of a "
                "trained model after one change in its last layer.",
                zh="左：手工字典中正确槽位的权重及其公式。右：在最后一层做一种改动后，训练好的模型的正确率。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (left, right) = panels(2, width=4.6)
        for place, name in enumerate(("expected", "weight")):
            values = [rows.mean(name, sharpness=each) for each in SHARP]
            line(left, SHARP, values, "e^b / (e^b + n - 1)" if name == "expected" else "measured", place)
        left.lines[0].set(linewidth=5, alpha=0.4, marker="")
        names = ("nothing", *CHANGES)
        shown = [each.replace(" of another", " of\nanother").replace(" permuted", "\npermuted") for each in names]
        bars(right, shown, [_of_those_that_know(rows).mean("accuracy", change=each) for each in names])
        threshold(right, 0.25, "any value of the text")
        right.set_ylim(0.0, 1.2)
        right.tick_params(axis="x", labelsize=8)
        for axes in (left, right):
            axes.legend(fontsize=8)
        label(left, x="length b of the query", y="weight on the right slot (share)")
        label(right, x="what is changed", y="right answers (share)")
        return figure


def _of_those_that_know(rows: Rows) -> Rows:
    """The rows of the models that learned the lookup; of all, where none did."""
    runs = rows.where(part="trained")
    seeds = knowing(runs.where(change="nothing"))
    return Rows(each for each in runs if each["seed"] in seeds) if seeds else runs


@torch.no_grad()
def _dictionary(seed: int) -> Iterator[Row]:
    """One-hot keys, queries that are b times a key, random values; in float64."""
    keys = torch.eye(SLOTS, dtype=torch.float64)[None, None]
    values = torch.randn(1, 1, SLOTS, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kernel = Dot(1, SLOTS, 0.0, scale=1.0)
    for sharpness in SHARP:
        weights = kernel.weights(sharpness * keys, keys, OPEN, UNRELATED)[0, 0]
        error = (kernel(sharpness * keys, keys, values, OPEN, UNRELATED) - values).norm() / values.norm()
        expected = exp(sharpness) / (exp(sharpness) + SLOTS - 1)
        yield {
            "sharpness": sharpness,
            "weight": float(weights.diagonal().mean()),
            "expected": expected,
            "error": float(error),
        }


def _interventions(updates: int, seed: int) -> Iterator[Row]:
    """A trained lookup in float64 with one change in its last layer, seen from the last token."""
    model = trained(reader(), lookup(), replace(SURE, updates=updates), seed).double()
    samples = examples(lookup(), 512, seed, "changes")
    before = _look(model, samples)
    yield {"change": "nothing", "accuracy": before[2]}
    for name, change in CHANGES.items():
        with _changed(model, change):
            after = _look(model, samples)
        yield {
            "change": name,
            "weights_moved": float((after[0] - before[0]).abs().sum(dim=-1).mean()),
            "output_moved": float((after[1] - before[1]).norm() / before[1].norm()),
            "accuracy": after[2],
        }


@torch.no_grad()
def _look(model: Transformer, samples: Samples) -> tuple[Tensor, Tensor, float]:
    """Weights of the last layer and logits, both of the last token, and the share of right answers."""
    with recording(model) as record:
        said = logits(model, samples)[:, -1]  # (batch, vocab)
    right = said.argmax(dim=-1) == samples.labels[:, -1]
    return record[LAST][:, :, -1], said, float(right.double().mean())


@contextmanager
def _changed(model: Transformer, change: Change) -> Iterator[None]:
    """Inside the block the last layer mixes changed queries, keys or values."""
    order = torch.randperm(9, generator=torch.Generator().manual_seed(5))
    kernel = attentions(model)[LAST].kernel
    hook = kernel.register_forward_pre_hook(
        lambda _, inputs: (*change(inputs[0], inputs[1], inputs[2], order), *inputs[3:])
    )
    try:
        yield
    finally:
        hook.remove()
