"""Why does a Transformer need positions?"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.data.synthetic import Samples, Task
from clearhead.lab.pictures import bars, label, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import interval
from clearhead.lab.training import Plan, build, decoder, encoder, score, trained
from clearhead.model import CAUSAL, OPEN, ModelConfig
from clearhead.model.position import POSITIONS

LENGTH, VOCAB, DRAWS = 8, 17, 50
BLIND, SEES = 1e-10, 1e-2  # changes by a permutation, float64
CHANCE, LEARNED = 0.03, 0.95  # how far from a half counts as guessing, and what counts as learned
HEAD = {"head": {"kind": "classify", "labels": 2, "pooling": "mean"}}  # any single token would tell which comes first
MODELS: Mapping[str, Mapping[str, Any]] = {
    "attention": {"position": "none"},
    "attention, sinusoidal": {"position": "sinusoidal"},
    "attention, causal": {"position": "none"},
    "convolution": {"position": "none", "stack": {"kind": "convolution", "width": 7}},
    "lstm": {"position": "none", "stack": "lstm"},
}


@QUESTIONS.register("why-position-encoding")
class WhyPositionEncoding(Question):
    """Permute the input of encoders with and without positions; then learn which of two tokens comes first."""

    topic = "positions"
    title = Text(
        en="Why does a Transformer need position information at all, and which symmetry has attention without it?",
        zh="Transformer 为什么必须额外提供位置信息？没有位置信息时，注意力具有怎样的对称性？",
    )
    sources = (
        Source("000", "9"),
        Source("002", "1.1(2)"),
        Source("002", "1.1(2)1)"),
        Source("003", "I.9"),
        Source("003", "IV.21"),
    )
    claims = (
        Claim(
            "order-blind",
            Text(
                en="Without recurrence and convolution the architecture cannot see the order of its input, so positions must be added.",
                zh="没有循环和卷积，模型本身看不到词序，因此必须加入位置信息。",
            ),
            Source("000", "9"),
            note=Text(en="Which mask attention has is not said.", zh="没有说明注意力带什么样的遮挡。"),
        ),
        Claim(
            "parallel",
            Text(
                en="It is because all words are processed in parallel that their order is lost.",
                zh="词序之所以丢失，是因为所有词被并行处理。",
            ),
            Source("002", "1.1(2)1)"),
            note=Text(en="A convolution is parallel too.", zh="卷积同样是并行的。"),
        ),
    )
    prediction = Text(
        en="Attention sums over its keys, and a sum has no order: without positions and mask, permuted inputs give permuted outputs to "
        "rounding, and which of two tokens comes first is a guess. A causal mask breaks the symmetry, so a decoder learns the order "
        "without positions. A convolution, as parallel as attention, learns it as well.",
        zh="注意力对各个键求和，而求和没有次序：既无位置又无遮挡时，输入置换，输出就同样置换（误差仅为舍入），判断两个词谁在前只能靠猜。"
        "因果遮挡会打破这种对称，所以解码器没有位置也能学会词序。与注意力一样并行的卷积同样能学会。",
    )
    criterion = Text(
        en="order-blind: refuted unless, without mask, a permutation changes outputs by less than 1e-10 without positions and by more than "
        "0.01 with every scheme, and accuracy is 50 +- 3 % without and at least 95 % with positions; then depends if a causal mask "
        "without positions is changed by more than 0.01 and learns the task (95 %), else supported. parallel: refuted if the "
        "convolution reaches 95 % (lower end of the interval), else supported.",
        zh="看不到词序：无遮挡时，没有位置则置换引起的变化小于 1e-10，任一位置方案则大于 0.01，且准确率在没有位置时为 50±3%，有位置时"
        "不低于 95%，否则不成立；若因果遮挡在没有位置时变化也大于 0.01 并学会任务（95%），则视情况而定，否则成立。并行：卷积的准确率"
        "（区间下端）达到 95% 则不成立，否则成立。",
    )
    parts = (
        "clearhead.model.position.base:NoPosition",
        "clearhead.model.attention.multihead:SelfAttention",
        "clearhead.model.stack.convolution:ConvolutionStack",
    )
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.5",
        "Haviv et al., 2022, arXiv:2203.16634",
        "Kazemnejad et al., 2023, arXiv:2305.19466",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=3):
            yield {"part": "permutation", "draws": scale.pick(quick=5, full=DRAWS), "seed": seed}
        for seed in scale.seeds(quick=1, full=5):
            for name in MODELS:
                yield {"part": "task", "model": name, "updates": scale.pick(quick=20, full=300), "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        if cell["part"] == "permutation":
            return _changes(int(cell["draws"] or 0), seed)
        which, name = WhichFirst(), str(cell["model"])
        made = decoder if name == "attention, causal" else encoder
        model = trained(
            made(which.vocab, {**HEAD, **MODELS[name]}), which, Plan(updates=int(cell["updates"] or 0)), seed
        )
        return [{"accuracy": score(model, which, seed, 2048).accuracy}]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        without = max(rows.column("change", position="none", mask="none"))
        causal = min(rows.column("change", position="none", mask="causal"))
        least = min(float(r["change"] or 0) for r in rows.where(mask="none") if r["position"] != "none")
        right = {name: interval(rows.column("accuracy", model=name)) for name in MODELS}
        blind = without < BLIND and least > SEES and abs(right["attention"].mean - 0.5) <= CHANCE
        masked = causal > SEES and right["attention, causal"].mean >= LEARNED
        decided = right["attention"].count > 1
        positions = right["attention, sinusoidal"].mean >= LEARNED
        verdict = Verdict.REFUTED if not (blind and positions) else Verdict.DEPENDS if masked else Verdict.SUPPORTED
        parallel = Verdict.REFUTED if right["convolution"].low >= LEARNED else Verdict.SUPPORTED
        return {
            "order-blind": Judgement(
                verdict if decided else Verdict.INCONCLUSIVE,
                Text(
                    en=f"A permutation changes outputs by at most {without:.0e} without positions, by at least {least:.2g} with any of the "
                    f"schemes, by at least {causal:.2g} with a causal mask instead. Accuracy: {right['attention'].mean:.0%} without, "
                    f"{right['attention, sinusoidal'].mean:.0%} with positions, {right['attention, causal'].mean:.0%} with a causal mask alone.",
                    zh=f"没有位置时，置换引起的变化不超过 {without:.0e}；任一位置方案不低于 {least:.2g}；只有因果遮挡时不低于 {causal:.2g}。"
                    f"准确率：没有位置 {right['attention'].mean:.0%}，有位置 {right['attention, sinusoidal'].mean:.0%}，只有因果遮挡 "
                    f"{right['attention, causal'].mean:.0%}。",
                ),
            ),
            "parallel": Judgement(
                parallel if decided else Verdict.INCONCLUSIVE,
                Text(
                    en=f"A convolution without positions, parallel too, gets {right['convolution'].mean:.1%} right; an LSTM {right['lstm'].mean:.1%}.",
                    zh=f"同样并行、没有位置的卷积，准确率为 {right['convolution'].mean:.1%}；LSTM 为 {right['lstm'].mean:.1%}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        right = {name: rows.mean("accuracy", model=name) for name in MODELS}
        runs = len(rows.where(part="task").distinct("seed"))
        return Answer(
            short=Text(
                en="Attention adds up values over a set of keys, and a set has no order: an encoder without positions is permutation "
                f"equivariant. Asked which of two tokens comes first, it gets {right['attention']:.0%} right, where guessing gets 50%; with sinusoidal "
                f"positions {right['attention, sinusoidal']:.0%}. With a causal mask each token sees a different set, and without any "
                f"positions the model gets {right['attention, causal']:.0%}.",
                zh="注意力把一组键的值加起来，而集合没有次序：没有位置的编码器是置换等变的。问两个词谁在前，它的准确率为 "
                f"{right['attention']:.0%}（瞎猜为 50%）；加上正弦位置后为 {right['attention, sinusoidal']:.0%}。若有因果遮挡，每个词看到的集合不同，"
                f"即使没有任何位置，准确率也有 {right['attention, causal']:.0%}。",
            ),
            imprecise=Text(
                en=f"Parallel work is not the cause: a convolution is parallel as well and gets {right['convolution']:.0%}, since its weights "
                "tell left from right. And what is said of encoders does not hold for decoders with a causal mask.",
                zh=f"原因不在并行：卷积同样并行，准确率为 {right['convolution']:.0%}，因为它的权重区分左右。另外，对编码器成立的说法，对带因果遮挡的解码器并不成立。",
            ),
            limits=Text(
                en=f"2 layers of width 32, {LENGTH} tokens, {runs} seed(s). The classifier reads the mean of all tokens, because reading a single place would "
                "itself tell what stands there.",
                zh=f"两层、宽度 32，{LENGTH} 个词，{runs} 个随机种子。分类器读取所有词的平均，因为只读某一个位置，本身就泄露了那里是什么。",
            ),
            caption=Text(
                en="Left: what a permutation of the input changes, float64. Right: how often the model knows which of two tokens comes first.",
                zh="左：输入置换引起的输出变化（float64）。右：判断两个词谁在前的准确率。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (changes, tasks) = panels(2, width=5.0, height=3.8)
        names = [each for each in rows.distinct("position") if each != "none"]
        values = [max(rows.column("change", position="none", mask="none"))]
        values += [min(rows.column("change", position="none", mask="causal"))]
        values += [min(rows.column("change", position=each, mask="none")) for each in names]
        bars(changes, ["none", "none,\ncausal", *names], values)
        changes.set_yscale("log")
        changes.set_ylim(1e-17, 100)
        changes.tick_params(axis="x", rotation=60)
        threshold(changes, BLIND, "blind to order below")
        changes.legend(fontsize=8)
        bars(
            tasks,
            [each.replace(", ", ",\n") for each in MODELS],
            [interval(rows.column("accuracy", model=each)) for each in MODELS],
        )
        threshold(tasks, 0.5, "guessing")
        tasks.legend(fontsize=8, loc="lower right")
        tasks.tick_params(axis="x", labelsize=7)
        label(changes, x="positions", y="largest change of an output", title="the input permuted")
        label(tasks, x="model", y="accuracy (share)", title="which of two tokens comes first")
        return figure


class WhichFirst(Task):
    """Two marked tokens among others: label 1 if the first mark stands before the second. Each order is equally likely."""

    vocab, classes, best = 12, 2, 0.0

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        tokens = torch.randint(3, self.vocab, (count, LENGTH), generator=generator)
        places = torch.rand(count, LENGTH, generator=generator).argsort(dim=1)[:, :2]
        tokens.scatter_(1, places, torch.tensor([1, 2]).expand(count, 2))
        return Samples(tokens, (places[:, 0] < places[:, 1]).long())


def _changes(draws: int, seed: int) -> Iterable[Row]:
    """The largest difference between outputs of permuted tokens and permuted outputs; the least of all permutations."""
    for name in POSITIONS.names():
        config = encoder(VOCAB, {"position": name})
        yield {"position": name, "mask": "none", "change": _change(config, draws, seed, causal=False)}
        if name == "none":
            yield {"position": name, "mask": "causal", "change": _change(config, draws, seed, causal=True)}


@torch.no_grad()
def _change(config: ModelConfig, draws: int, seed: int, *, causal: bool) -> float:
    """For no positions the most that a permutation changes, which must be nothing; for others the least."""
    model, generator = build(config, seed).double().eval(), torch.Generator().manual_seed(seed)
    mask, found = CAUSAL if causal else OPEN, []
    for _ in range(draws):
        tokens = torch.randperm(VOCAB - 1, generator=generator)[None, :LENGTH] + 1
        order = _permutation(generator)
        plain, permuted = (model.encode(each, mask=mask).hidden for each in (tokens, tokens[:, order]))
        found.append(float((permuted - plain[:, order]).abs().max()))
    return max(found) if config.position.kind == "none" and not causal else min(found)


def _permutation(generator: torch.Generator) -> Tensor:
    """A random one, but neither the identity nor the reversal: that keeps every distance, so ALiBi cannot see it."""
    order, places = torch.randperm(LENGTH, generator=generator), torch.arange(LENGTH)
    kept = torch.equal(order, places) or torch.equal(order, places.flip(0))
    return order.roll(1) if kept else order
