"""Why is the length of the input limited, and which limits are hard?"""

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from clearhead.core.errors import ModelError
from clearhead.data.synthetic import IGNORED
from clearhead.generate import SegmentCache
from clearhead.lab.parts.allocation import peak_bytes
from clearhead.lab.parts.longer import SEEN, learner, read, text
from clearhead.lab.pictures import label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, exponent, interval
from clearhead.lab.training import build, decoder, examples
from clearhead.model import CAUSAL, OPEN, AttentionMask, Transformer
from clearhead.model.attention.base import Scored
from clearhead.model.attention.dot import Dot
from clearhead.model.attention.tiled import Tiled
from clearhead.model.position import POSITIONS
from clearhead.model.position.base import UNRELATED

D_HEAD, BLOCK, ROWS = 16, 64, 32  # width of a head, tile of the tiled kernel, rows of the table that is overrun
SCHEMES = ("sinusoidal", "learned", "rope", "xl")
REMEDIES = {"sliding window": "sinusoidal", "chunks": "sinusoidal", "chunks with memory": "xl"}
LENGTHS = (SEEN, 2 * SEEN, 4 * SEEN)
FALL = 0.10  # of the accuracy
TEXTS = 64  # that remedies read


@QUESTIONS.register("input-length-limit")
class InputLengthLimit(Question):
    """Bytes and products of attention, tables that end, and accuracy beyond the learned length, with three remedies."""

    topic = "positions"
    title = Text(
        en="Why is the input length of a Transformer limited, and which of the limits are hard?",
        zh="Transformer 的输入长度为什么有上限？哪些限制是硬性的，哪些可以放宽？",
    )
    sources = (Source("003", "IV.28"), Source("002", "1.1(2)4)"))
    claims = (
        Claim(
            "limited",
            Text(en="The length of the input is limited.", zh="Transformer 的输入长度是有限制的。"),
            Source("003", "IV.28"),
            note=Text(
                en="Three limits hide in this: cost, tables that end, and lengths never seen. The formula of attention has none.",
                zh="其中混着三种限制：开销、会用完的位置表、从未见过的长度。注意力公式本身没有限制。",
            ),
        ),
    )
    prediction = Text(
        en="All three limits exist and only the table is hard. Memory grows as n^2 if scores are kept and as n in tiles, the number of products as n^2 in both. A "
        "learned table refuses the first token beyond it. On texts four times as long as those learned, sinusoidal and rotary models lose more than ten "
        "points; a window alone does not help absolute positions, chunks of the learned length do.",
        zh="三种限制都存在，其中只有位置表是硬性的。保留打分时内存按 n² 增长，分块计算时按 n 增长，乘法次数两者都按 n² 增长。可学习的位置表会拒绝超出的第一个词。"
        "文本为训练长度四倍时，正弦和旋转模型的准确率下降十个百分点以上；单靠滑动窗口救不了绝对位置，切成训练长度的块则可以。",
    )
    criterion = Text(
        en="supported as three separate limits if (1) what a doubled length adds to the peak of memory grows with an exponent of 2.0 +- 0.05 when scores are kept and 1.0 +- "
        "0.1 in tiles (increments, so that the constant tile does not count) and products with 2.0 +- 0.05, (2) a learned table works at its last row and fails at the next token, "
        "sinusoids do not, (3) accuracy at four times the learned length is lower by more than 10 points (lower end of the interval) for some scheme that runs. depends if "
        "one or two of them hold, refuted if none.",
        zh="满足以下三条则成立（三种各自独立的限制）：①长度加倍所增加的内存峰值，保留打分时指数为 2.0±0.05，分块时为 1.0±0.1（取增量，以排除块本身的常数），"
        "乘法次数指数为 2.0±0.05；②可学习的位置表在最后一行可用、再多一个词就失败，正弦则不会；③某个能运行的方案在四倍训练长度时准确率下降 10 个百分点以上（区间下端）。"
        "只满足一两条则视情况而定，都不满足则不成立。",
    )
    parts = (
        "clearhead.model.attention.tiled:Tiled",
        "clearhead.model.attention.base:Scored",
        "clearhead.model.position.learned:Learned",
        "clearhead.generate.caches.segment:SegmentCache",
    )
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, sections 3.5 and 4",
        "Devlin et al., 2019, arXiv:1810.04805, appendix A.2 (512 positions)",
        "Dai et al., 2019, arXiv:1901.02860, section 3.2",
        "Beltagy, Peters and Cohan, 2020, arXiv:2004.05150",
        "Dao et al., 2022, arXiv:2205.14135",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for length in scale.pick(quick=(128, 256, 512), full=(256, 512, 1024, 2048, 4096)):
            yield {"part": "cost", "length": length}
        yield {"part": "tables"}
        updates = scale.pick(quick=8, full=300)
        for seed in scale.seeds(quick=1, full=4):
            for scheme in SCHEMES:
                yield {"part": "accuracy", "scheme": scheme, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        if cell["part"] == "cost":
            return _costs(int(cell["length"] or 0))
        if cell["part"] == "tables":
            return [{"position": each, **_overrun(each)} for each in POSITIONS.names()]
        return _accuracies(str(cell["scheme"]), int(cell["updates"] or 0), int(cell["seed"] or 0))

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        kept, tiled = _growth(rows, "scores kept"), _growth(rows, "tiles")
        products = [_exponent(rows, each, "products") for each in ("scores kept", "tiles")]
        cost = abs(kept - 2.0) <= 0.05 and abs(tiled - 1.0) <= 0.1 and all(abs(each - 2.0) <= 0.05 for each in products)
        ends = rows.where(part="tables")
        learned, endless = ends.where(position="learned")[0], ends.where(position="sinusoidal")[0]
        table = bool(learned["last"]) and not learned["next"] and bool(endless["next"])
        falls = {each: _fall(rows, each) for each in SCHEMES}
        unseen = any(each.low > FALL for each in falls.values())
        hold = sum((cost, table, unseen))
        decided = falls["sinusoidal"].count > 1
        shown = ", ".join(f"{name} {100 * each.mean:.0f}" for name, each in falls.items())
        verdict = Verdict.SUPPORTED if hold == 3 else Verdict.DEPENDS if hold else Verdict.REFUTED
        return {
            "limited": Judgement(
                verdict if decided else Verdict.INCONCLUSIVE,
                Text(
                    en=f"(1) Exponent of memory {kept:.2f} with scores kept, {tiled:.2f} in tiles, of products {products[0]:.2f} and {products[1]:.2f}. (2) A learned table of {ROWS} rows "
                    f"{'refuses' if not learned['next'] else 'reads'} token {ROWS + 1}. (3) Points of accuracy lost at {4 * SEEN} tokens: {shown}.",
                    zh=f"①内存的指数：保留打分 {kept:.2f}，分块 {tiled:.2f}；乘法次数为 {products[0]:.2f} 和 {products[1]:.2f}。②{ROWS} 行的可学习位置表"
                    f"{'拒绝' if not learned['next'] else '接受'}第 {ROWS + 1} 个词。③{4 * SEEN} 个词时准确率下降的百分点：{shown.replace(', ', '，')}。",
                ),
            )
        }

    def answer(self, rows: Rows) -> Answer:
        longest = max(rows.where(part="cost").distinct("length"))
        bytes_ = {
            each: rows.one("bytes", part="cost", way=each, length=longest) / 2**20 for each in ("scores kept", "tiles")
        }
        refusing = ", ".join(str(row["position"]) for row in rows.where(part="tables", next=False))
        at_four = {
            each: rows.mean("accuracy", part="accuracy", way=each, length=4 * SEEN) for each in (*SCHEMES, *REMEDIES)
        }
        return Answer(
            short=Text(
                en=f"Three limits, one of them hard. Cost: one head over {longest} tokens holds {bytes_['scores kept']:.0f} MiB if all scores are kept and {bytes_['tiles']:.1f} MiB in tiles, "
                f"while the number of products grows as n^2 in both. Tables: those of {refusing} have a last row and refuse the next token; formulas do not end. Learning: "
                f"models that learned {SEEN} tokens get, at {4 * SEEN}, {at_four['sinusoidal']:.0%} (sinusoidal), {at_four['learned']:.0%} (learned), {at_four['rope']:.0%} (rotary) and "
                f"{at_four['xl']:.0%} (Transformer-XL) right.",
                zh=f"有三种限制，只有一种是硬性的。开销：单个头处理 {longest} 个词，保留全部打分占 {bytes_['scores kept']:.0f} MiB，分块计算占 {bytes_['tiles']:.1f} MiB，而乘法次数都按 n² 增长。"
                f"位置表：{refusing.replace(', ', '、')} 有最后一行，再多一个词就拒绝；由公式给出的方案没有尽头。训练：学过 {SEEN} 个词的模型读 {4 * SEEN} 个词，准确率为正弦 {at_four['sinusoidal']:.0%}、"
                f"可学习 {at_four['learned']:.0%}、旋转 {at_four['rope']:.0%}、Transformer-XL {at_four['xl']:.0%}。",
            ),
            imprecise=Text(
                en="'Limited' mixes these up; the formula of attention has no limit at all. Remedies change which limit applies. At "
                f"{4 * SEEN} tokens: a sliding window over sinusoidal positions {at_four['sliding window']:.0%}, chunks of {SEEN} read one by one {at_four['chunks']:.0%} (the first tokens of a chunk have lost "
                f"their context), chunks of {SEEN // 2} with a memory of {SEEN // 2} and relative positions {at_four['chunks with memory']:.0%} (Transformer-XL read in one piece: {at_four['xl']:.0%}).",
                zh="“有限制”把这三者混在一起；注意力公式本身毫无限制。补救办法只是改变起作用的是哪种限制。"
                f"{4 * SEEN} 个词时：正弦位置加滑动窗口 {at_four['sliding window']:.0%}，逐块读 {SEEN} 个词 {at_four['chunks']:.0%}（块首的词失去了上文），带记忆的分块（块与记忆各 {SEEN // 2} 个词）加相对位置 "
                f"{at_four['chunks with memory']:.0%}（Transformer-XL 一次读完为 {at_four['xl']:.0%}）。",
            ),
            limits=Text(
                en=f"Memory and products are counted, not timed, for the forward pass of one head of width {D_HEAD}. Accuracy is that of repeating the token three back, 2 layers of width 32, "
                f"{len(rows.where(part='accuracy').distinct('seed'))} seed(s).",
                zh=f"内存和乘法次数是数出来的，没有计时，只含单个头（宽 {D_HEAD}）的前向计算。准确率取自回看三个词的任务，两层、宽度 32，"
                f"{len(rows.where(part='accuracy').distinct('seed'))} 个随机种子。",
            ),
            caption=Text(
                en="Left: memory that attention holds at once. Right: accuracy beyond the learned length, without and with remedies.",
                zh="左：注意力同时占用的内存。右：超出训练长度时的准确率，以及补救办法。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (memory, right) = panels(2, width=4.8, height=3.8)
        cost = rows.where(part="cost")
        for place, way in enumerate(("scores kept", "tiles")):
            line(memory, cost.distinct("length"), [each / 2**20 for each in cost.column("bytes", way=way)], way, place)
        memory.set_xscale("log", base=2)
        memory.set_yscale("log")
        memory.legend(fontsize=8)
        for place, way in enumerate((*SCHEMES, *REMEDIES)):
            found = [interval(rows.column("accuracy", part="accuracy", way=way, length=n)).mean for n in LENGTHS]
            name = f"{way} ({REMEDIES[way]})" if way in REMEDIES else way
            line(right, LENGTHS, found, name, place)
        threshold(right, 1 / 8, "guessing")
        right.set_xscale("log", base=2)
        right.set_xticks(LENGTHS, [str(each) for each in LENGTHS])
        right.set_ylim(0, 1.05)
        right.legend(fontsize=6.5, loc="lower left")
        label(memory, x="tokens", y="peak of one head (MiB)", title="cost")
        label(right, x="tokens of a text", y="accuracy (share)", title=f"learned with {SEEN} tokens")
        return figure


@torch.no_grad()
def _costs(length: int) -> Iterable[Row]:
    """Bytes held at once and products computed by the forward pass of one head."""
    query, key, value = torch.randn(3, 1, 1, length, D_HEAD, generator=torch.Generator().manual_seed(0))
    dot, tiled = Dot(1, D_HEAD, 0.0), Tiled(1, D_HEAD, 0.0, block=BLOCK)
    ways: dict[str, Callable[[], Tensor]] = {
        "scores kept": lambda: Scored.forward(dot, query, key, value, OPEN, UNRELATED),
        "tiles": lambda: tiled(query, key, value, OPEN, UNRELATED),
    }
    for name, compute in ways.items():
        with FlopCounterMode(display=False) as counter:
            compute()
        yield {"way": name, "bytes": peak_bytes(compute), "products": counter.get_total_flops()}


def _overrun(position: str) -> Row:
    """Whether a model with a table of so many rows reads a text of that length, and one token more."""
    model = build(decoder(9, {"position": position, "length": ROWS}), 0).eval()
    return {"last": _reads(model, ROWS), "next": _reads(model, ROWS + 1)}


def _reads(model: Transformer, length: int) -> bool:
    try:
        with torch.no_grad():
            model.decode(torch.ones(1, length, dtype=torch.long))
    except ModelError:
        return False
    return True


@torch.no_grad()
def _accuracies(scheme: str, updates: int, seed: int) -> Iterable[Row]:
    """Accuracy at and beyond the learned length, plain and with the remedies that go with the scheme."""
    with torch.enable_grad():
        model = learner("delay", {"position": scheme}, updates, seed)
    ways = {"sliding window": _in_window, "chunks": _in_chunks, "chunks with memory": _with_memory}
    for length in LENGTHS:
        yield {"way": scheme, "length": length, "accuracy": read(model, "delay", length, seed).accuracy}
        samples = examples(text("delay", length), TEXTS, seed, "remedy", length)
        asked = samples.labels != IGNORED
        for name in (each for each, of in REMEDIES.items() if of == scheme):
            said = model.logits(ways[name](model, samples.tokens)).argmax(dim=-1)
            yield {"way": name, "length": length, "accuracy": float((said == samples.labels)[asked].float().mean())}


def _in_window(model: Transformer, tokens: Tensor) -> Tensor:
    """Each token sees the last 16 tokens only; positions go on."""
    return model.decode(tokens, mask=CAUSAL & AttentionMask(window=SEEN))


def _in_chunks(model: Transformer, tokens: Tensor) -> Tensor:
    """Chunks of 16 tokens, each read as a text of its own."""
    return model.decode(tokens.reshape(-1, SEEN)).reshape(*tokens.shape, -1)


def _with_memory(model: Transformer, tokens: Tensor) -> Tensor:
    """Chunks of 8 tokens that also read the 8 before them, so that no distance is new."""
    half = SEEN // 2
    cache, found = SegmentCache(model.config.decoder_layers, half), []
    for start in range(0, tokens.shape[1], half):
        here = torch.arange(start, start + half)[None]
        found.append(model.decode(tokens[:, start : start + half], positions=here, cache=cache))
    return torch.cat(found, dim=1)


def _growth(rows: Rows, way: str) -> float:
    """The exponent of what a doubled length adds to the peak."""
    cost = rows.where(part="cost", way=way)
    lengths, held = cost.column("length"), cost.column("bytes")
    return exponent(lengths[:-1], [more - less for less, more in pairwise(held)]).mean


def _exponent(rows: Rows, way: str, column: str) -> float:
    cost = rows.where(part="cost", way=way)
    return exponent(cost.column("length"), cost.column(column)).mean


def _fall(rows: Rows, scheme: str) -> Interval:
    """Accuracy at the learned length minus that at four times it, over seeds."""
    found = rows.where(part="accuracy", way=scheme)
    return interval(found.paired("accuracy", {"length": SEEN}, {"length": 4 * SEEN}))
