"""Is order supplied by position encodings or by attention itself?"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from clearhead.data.synthetic import IGNORED, Samples, Task
from clearhead.lab.parts.whole_source import WholeSource
from clearhead.lab.pictures import COLOURS, label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval
from clearhead.lab.training import Plan, decoder, encoder, examples, logits, score, task, trained
from clearhead.model import CAUSAL, OPEN
from clearhead.model.attention.dot import Dot
from clearhead.model.position.base import UNRELATED
from clearhead.model.recorder import EVERYTHING, recording

LENGTH, SYMBOLS, PROBED = 16, 8, 256
EXACT, READ, NOTHING = 1e-12, 0.9, 0.05  # error of the counter; R^2 that counts as known, and as unknown
MASKS, POSITIONS, TEXTS = ("causal", "bidirectional"), ("none", "sinusoidal"), ("markov", "reverse")
PLACES = ("embedding", "blocks.0", "blocks.1")


@QUESTIONS.register("order-from-position-or-attention")
class OrderFromPositionOrAttention(Question):
    """A head that counts, by construction; then linear probes for the position in trained and untrained models."""

    topic = "positions"
    title = Text(
        en="Is word order supplied by the position encoding or by multi-head attention itself?",
        zh="词序到底由位置编码提供，还是多头注意力自己就能推出来？",
    )
    sources = (Source("003", "IV.21"),)
    claims = (
        Claim(
            "either-or",
            Text(
                en="Order comes either from the position encoding or from multi-head attention.",
                zh="词序要么来自位置编码，要么来自多头注意力。",
            ),
            Source("003", "IV.21"),
            note=Text(en="The mask of the attention is not named.", zh="没有说明注意力使用什么遮挡。"),
        ),
    )
    prediction = Text(
        en="It depends on the mask. With a causal mask a head with equal weights gives 1/t at token t, so a model knows its positions after "
        "the first block, even untrained, and a linear probe reads them (R^2 of 0.9 or more). Without a mask the same head gives 1/n "
        "everywhere and nothing can be read.",
        zh="取决于遮挡。有因果遮挡时，权重均匀的头在第 t 个词处给出 1/t，因此模型在第一个块之后就知道位置，甚至未经训练也是如此，线性探针可以读出"
        "（R² 不低于 0.9）。没有遮挡时，同一个头处处给出 1/n，什么也读不出来。",
    )
    criterion = Text(
        en="depends if the construction gives 1/t (causal) and 1/n (no mask) to 1e-12, and without position encoding the best layer of "
        "the causal models has R^2 of at least 0.9 on some task (lower end of the interval) while without a mask all layers stay at "
        "or below 0.05 (upper end). supported if both stay at or below 0.05 (only the encoding supplies order), refuted if a model "
        "without mask and encoding exceeds 0.05, else inconclusive.",
        zh="若构造的头精确到 1e-12 地给出 1/t（因果）和 1/n（无遮挡），且没有位置编码时，因果模型最好的一层在某个任务上 R² 不低于 0.9（区间下端），而无遮挡"
        "模型的各层都不超过 0.05（区间上端），则视情况而定；两者都不超过 0.05（只有编码提供词序）则成立；无遮挡且无编码的模型超过 0.05 则不成立；"
        "否则尚无定论。",
    )
    parts = (
        "clearhead.model.attention.dot:Dot",
        "clearhead.model.mask:AttentionMask",
        "clearhead.model.position.base:NoPosition",
    )
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.5",
        "Haviv et al., 2022, arXiv:2203.16634",
        "Kazemnejad et al., 2023, arXiv:2305.19466 (theorem 1)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        yield {"part": "counter"}
        for seed in scale.seeds(quick=1, full=4):
            for each in TEXTS:
                for mask in MASKS:
                    for position in POSITIONS:
                        for updates in scale.pick(quick=(15,), full=(0, 300)):
                            yield {
                                "part": "probe",
                                "task": each,
                                "mask": mask,
                                "position": position,
                                "updates": updates,
                                "seed": seed,
                            }

    def measure(self, cell: Cell) -> Iterable[Row]:
        if cell["part"] == "counter":
            return [{"mask": name, "error": _counter(name)} for name in MASKS]
        return _probed(cell)

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        counter = max(rows.column("error", part="counter"))
        causal = max((_best(rows, "causal", each) for each in TEXTS), key=lambda found: found.mean)
        blind = [_known(rows, "bidirectional", each, place) for each in TEXTS for place in PLACES]
        seen = max(each.mean for each in blind)
        return {
            "either-or": Judgement(
                _verdict(counter, causal, blind),
                Text(
                    en=f"The counting head is off by at most {counter:.1g}. Without position encoding a linear probe explains {causal.mean:.1%} of "
                    f"the variance of positions in a causal model, at most {max(seen, 0.0):.1%} in one without mask (counts as known: {READ:.0%}, as unknown: {NOTHING:.0%}).",
                    zh=f"计数的头误差不超过 {counter:.1g}。没有位置编码时，线性探针在因果模型中解释了位置方差的 {causal.mean:.1%}，在无遮挡的模型中至多 "
                    f"{max(seen, 0.0):.1%}（知道的门槛为 {READ:.0%}，不知道为 {NOTHING:.0%}）。",
                ),
            )
        }

    def answer(self, rows: Rows) -> Answer:
        causal, blind = (max(_best(rows, mask, each).mean for each in TEXTS) for mask in MASKS)
        fresh = rows.where(part="probe", updates=min(rows.distinct("updates")))
        untrained = max(
            fresh.mean("known", mask="causal", position="none", task=each, place="blocks.1") for each in TEXTS
        )
        solved = {(m, p): _accuracy(rows, m, p, "reverse") for m in MASKS for p in POSITIONS}
        start = min(fresh.distinct("updates"))
        clock = {}  # what a linear probe explains of the positions if it is given 1/t itself
        for length in (LENGTH, LENGTH // 2):
            at = torch.arange(length).double()
            clock[length] = float(torch.corrcoef(torch.stack([at, 1 / (at + 2)]))[0, 1] ** 2)
        return Answer(
            short=Text(
                en="Both can. Without a mask only a position encoding supplies order; with a causal mask each token sees one key more than the "
                "one before, and that is a clock: equal weights over the keys so far give a begin token the share 1/t. Without any position encoding a "
                f"linear probe explains {causal:.0%} of the variance of positions in causal models and {max(blind, 0.0):.0%} in models without "
                f"mask; {f'after {start} updates of training' if start else 'before any training'} it is {untrained:.0%} in causal ones.",
                zh="两者都可以。没有遮挡时，只有位置编码能提供词序；有因果遮挡时，每个词比前一个词多看到一个键，这就是时钟：对已有的键均匀加权，起始符所占的"
                f"份额恰为 1/t。没有任何位置编码时，线性探针在因果模型中解释了位置方差的 {causal:.0%}，在无遮挡的模型中为 {max(blind, 0.0):.0%}；"
                f"{f'训练 {start} 步时' if start else '训练之前'}因果模型中为 {untrained:.0%}。",
            ),
            imprecise=Text(
                en="Order is a matter of the mask, not of several heads: one head counts. Knowing a position is not yet using it: asked to reverse a text "
                f"after the same training, causal models get {solved['causal', 'none']:.0%} of the tokens right without encoding and "
                f"{solved['causal', 'sinusoidal']:.0%} with it, models without mask {solved['bidirectional', 'none']:.0%} and "
                f"{solved['bidirectional', 'sinusoidal']:.0%}.",
                zh="关键在遮挡而不在多头：一个头就能计数。知道位置还不等于用得上：同样的训练之后要求把文本倒过来，因果模型没有编码时答对 "
                f"{solved['causal', 'none']:.0%} 的词，有编码时 {solved['causal', 'sinusoidal']:.0%}；无遮挡的模型分别为 {solved['bidirectional', 'none']:.0%} 和 "
                f"{solved['bidirectional', 'sinusoidal']:.0%}。",
            ),
            limits=Text(
                en=f"2 layers of width 32, {LENGTH} tokens after a begin token, {len(rows.where(part='probe').distinct('seed'))} seed(s). The begin token itself "
                f"is not probed, and in reversed texts only the source is: {LENGTH // 2} tokens for causal models, {LENGTH} for those without mask, so their accuracies are not to be compared. The position may also be known in a form that a linear probe does not read: of the exact share 1/t alone it would explain "
                f"{clock[LENGTH]:.0%} over {LENGTH} tokens and {clock[LENGTH // 2]:.0%} over {LENGTH // 2}, less than the {READ:.0%} asked for.",
                zh=f"两层、宽度 32，起始符之后 {LENGTH} 个词，{len(rows.where(part='probe').distinct('seed'))} 个随机种子。起始符本身不参与探测，"
                f"倒序任务只探测源文本：因果模型为 {LENGTH // 2} 个词，无遮挡的模型为 {LENGTH} 个词，所以两者的准确率不宜相比。位置也可能以线性探针读不全的形式存在：只给它精确的 1/t，{LENGTH} 个词时也只能解释 {clock[LENGTH]:.0%}，{LENGTH // 2} 个词时 {clock[LENGTH // 2]:.0%}，都达不到所要求的 {READ:.0%}。",
            ),
            caption=Text(
                en="How much of the position a linear probe reads from each layer, without and with position encoding.",
                zh="线性探针在各层读出多少位置信息，左为没有位置编码，右为有。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, drawn = panels(len(POSITIONS), width=4.6, height=3.6)
        for axes, position in zip(drawn, POSITIONS, strict=True):
            for place, (mask, each) in enumerate((m, t) for m in MASKS for t in TEXTS):
                values = [_known(rows, mask, each, p, position) for p in PLACES]
                line(axes, range(len(PLACES)), values, f"{mask}, {each}", place)
            threshold(axes, READ, "counts as known")
            axes.axhline(NOTHING, color=COLOURS[6], linestyle=":", linewidth=1.2)
            axes.set_xticks(range(len(PLACES)), ["embedding", "block 1", "block 2"])
            axes.set_ylim(-0.15, 1.1)
            label(
                axes, x="layer", y="variance of the position that is read (R²)", title=f"position encoding: {position}"
            )
        drawn[0].legend(fontsize=7, loc="center right")
        return figure


class Begun(Task):
    """A task with a begin token in front, whose id is the next free one."""

    def __init__(self, inner: Task) -> None:
        self.inner, self.begin, self.vocab = inner, inner.vocab, inner.vocab + 1

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        samples = self.inner.draw(count, generator)
        return replace(
            samples,
            tokens=F.pad(samples.tokens, (1, 0), value=self.begin),
            labels=F.pad(samples.labels, (1, 0), value=IGNORED),
        )


class Hidden(Task):
    """A quarter of the tokens of a text hidden, and asked for; the id that hides is the next free one."""

    def __init__(self, inner: Task) -> None:
        self.inner, self.vocab = inner, inner.vocab + 1

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        tokens = self.inner.draw(count, generator).tokens
        hidden = torch.rand(tokens.shape, generator=generator) < 0.25
        return Samples(tokens.masked_fill(hidden, self.inner.vocab), tokens.where(hidden, IGNORED))


def _text(name: str, mask: str) -> Task:
    """What a model of this mask learns; both read 16 tokens after the begin token."""
    if name == "markov":
        markov = task("markov", {"symbols": SYMBOLS, "length": LENGTH})
        return Begun(markov if mask == "causal" else Hidden(markov))
    causal = mask == "causal"
    form, length = ("decoder", LENGTH // 2) if causal else ("encoder_decoder", LENGTH)
    reverse = task("reverse", {"symbols": SYMBOLS, "length": length, "form": form})
    return Begun(reverse if causal else WholeSource(reverse))


@torch.no_grad()
def _probed(cell: Cell) -> Iterable[Row]:
    """Train, then read positions from each layer; those of the source of a reversed text, of all tokens else."""
    name, mask, seed = str(cell["task"]), str(cell["mask"]), int(cell["seed"] or 0)
    text, side = _text(name, mask), "decoder" if mask == "causal" else "encoder"
    config = (decoder if mask == "causal" else encoder)(text.vocab, {"position": cell["position"]})
    with torch.enable_grad():
        model = trained(config, text, Plan(updates=int(cell["updates"] or 0), batch=16), seed)
    samples = examples(text, PROBED, seed, "probe")
    end = LENGTH // 2 if name == "reverse" and mask == "causal" else LENGTH
    with recording(model, EVERYTHING) as record:
        logits(model, samples)
    accuracy = score(model, text, seed).accuracy
    for place in PLACES:
        yield {"place": place, "known": _explained(record[f"{side}.{place}"][:, 1 : end + 1]), "accuracy": accuracy}


def _explained(states: Tensor) -> float:
    """R^2 on half of the texts of a linear map to the position that is fitted on the other half; states (texts, length, width)."""
    texts, length, _ = states.shape
    at = torch.arange(length).double().expand(texts, -1)
    given = F.pad(states.double(), (0, 1), value=1.0)  # (texts, length, width + 1)
    half, width = texts // 2, given.shape[-1]
    first, second = given[:half].reshape(-1, width), given[half:].reshape(-1, width)
    weight = torch.linalg.solve(first.T @ first + 1e-3 * torch.eye(width).double(), first.T @ at[:half].reshape(-1))
    missed = second @ weight - at[half:].reshape(-1)
    return 1.0 - float(missed.square().mean()) / float(at.var(unbiased=False))


def _counter(mask: str) -> float:
    """How far equal weights are from giving a begin token the share 1/t (causal) or 1/n (no mask)."""
    query, value = torch.zeros(1, 1, LENGTH, 8).double(), torch.zeros(1, 1, LENGTH, 8).double()
    value[:, :, 0] = 1.0
    found = Dot(1, 8, 0.0)(query, query, value, CAUSAL if mask == "causal" else OPEN, UNRELATED)[0, 0, :, 0]
    counts = torch.arange(1, LENGTH + 1).double() if mask == "causal" else torch.full((LENGTH,), LENGTH).double()
    return float((found - 1 / counts).abs().max())


def _known(rows: Rows, mask: str, name: str, place: str, position: str = "none") -> Interval:
    """R^2 after training, over seeds."""
    last = max(rows.distinct("updates"))
    return interval(rows.column("known", mask=mask, task=name, place=place, position=position, updates=last))


def _best(rows: Rows, mask: str, name: str) -> Interval:
    """That of the layer from which most is read."""
    return max((_known(rows, mask, name, place) for place in PLACES), key=lambda found: found.mean)


def _accuracy(rows: Rows, mask: str, position: str, name: str) -> float:
    return rows.mean("accuracy", mask=mask, position=position, task=name, updates=max(rows.distinct("updates")))


def _verdict(counter: float, causal: Interval, blind: list[Interval]) -> Verdict:
    if causal.count < 2 or counter > EXACT:
        return Verdict.INCONCLUSIVE
    if any(each.low > NOTHING for each in blind):
        return Verdict.REFUTED
    unknown = all(each.high <= NOTHING for each in blind)
    if unknown and causal.low >= READ:
        return Verdict.DEPENDS
    return Verdict.SUPPORTED if unknown and causal.high <= NOTHING else Verdict.INCONCLUSIVE
