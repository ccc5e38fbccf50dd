"""The sinusoidal table has no end. Does a model that learned with it read texts of any length?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure

from clearhead.lab.parts.longer import SEEN, TABLE, TEXTS, learner, read, text
from clearhead.lab.pictures import label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval
from clearhead.lab.training import build, decoder
from clearhead.model.position.sinusoidal import Sinusoidal

SCHEMES = ("sinusoidal", "learned", "rope", "xl", "alibi", "none")
LENGTHS = (SEEN, SEEN * 3 // 2, 2 * SEEN, 4 * SEEN, 8 * SEEN)
FAR = 4 * SEEN  # where the verdict is read
WORSE = 0.1  # nats
END = 100_000  # a position far beyond every table


@QUESTIONS.register("sinusoidal-extrapolation")
class SinusoidalExtrapolation(Question):
    """Six schemes learn texts of 16 tokens and read up to 128; the best possible loss is the same at every length."""

    topic = "positions"
    title = Text(
        en="Sine and cosine are defined for every position: does a trained model therefore work on longer sequences?",
        zh="正余弦函数可以无限延伸，训练好的模型就能处理比训练时更长的序列吗？",
    )
    sources = (Source("002", "1.1(2)4)"), Source("002", "1.1(2)4)1"), Source("003", "II.4"))
    claims = (
        Claim(
            "extends",
            Text(en="Sine and cosine extend without limit.", zh="正弦和余弦函数可以无限延伸。"),
            Source("002", "1.1(2)4)1"),
        ),
        Claim(
            "any-length",
            Text(
                en="Therefore the code suits sequences of any length.",
                zh="因此这种编码适用于任意长度的序列。",
            ),
            Source("002", "1.1(2)4)1"),
            note=Text(
                en="The paper only hopes for it: it chose the sinusoids because they may let a model extrapolate.",
                zh="原论文只是寄望于此：之所以选正弦，是因为它或许能让模型外推。",
            ),
        ),
    )
    prediction = Text(
        en="The table extends without an error. The model does not: at four times the learned length the loss rises by more than 0.1 nats on "
        "both tasks, since the layers never saw these rows. A learned table is worse still; ALiBi and no positions at all stay within "
        "0.05 nats on the Markov text, where near tokens suffice.",
        zh="表可以无误地延伸，模型却不行：长度为训练的四倍时，两个任务的损失都升高 0.1 奈特以上，因为各层从未见过这些行。可学习的位置表更差；ALiBi 和完全不用位置"
        "在马尔可夫文本上（只需近处的词）变化不超过 0.05 奈特。",
    )
    criterion = Text(
        en="Both tasks are stationary, so the best possible loss is the same at every length, and a rise is the model's failure. "
        "extends: supported if row 100000 is finite, has length sqrt(d/2) to 1e-6 and a model reads beyond its table without an error. "
        "any-length: at four times the learned length, refuted if the loss of the sinusoidal model rises by more than 0.1 nats on both "
        "tasks (lower end of the interval), depends if on one, supported if on both by less than 0.1 nats (upper end), else inconclusive.",
        zh="两个任务都是平稳的，任何长度上可能的最低损失都相同，所以升高就是模型的失败。延伸：第 100000 行有限、长度与 √(d/2) 相差不超过 1e-6，且模型读超出表长的"
        "文本不报错，则成立。任意长度：长度为训练的四倍时，正弦模型在两个任务上损失都升高 0.1 奈特以上（区间下端）则不成立，只有一个则视情况而定，两个都升高不到 0.1"
        "（区间上端）则成立，否则尚无定论。",
    )
    parts = (
        "clearhead.model.position.sinusoidal:Sinusoidal",
        "clearhead.model.position.alibi:Alibi",
        "clearhead.model.position.learned:Learned",
    )
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.5",
        "Press, Smith and Lewis, 2022, arXiv:2108.12409, section 2",
        "Kazemnejad et al., 2023, arXiv:2305.19466",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        yield {"part": "table"}
        updates = scale.pick(quick=8, full=300)
        compared = scale.pick(quick=SCHEMES[:1] + SCHEMES[4:], full=SCHEMES)
        for place, seed in enumerate(scale.seeds(quick=1, full=6)):
            for kind in TEXTS:
                for scheme in compared if place < 3 else SCHEMES[:1]:  # the scheme on trial has more seeds
                    yield {"part": "length", "task": kind, "scheme": scheme, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        if cell["part"] == "table":
            return [_extended()]
        kind, seed = str(cell["task"]), int(cell["seed"] or 0)
        model = learner(kind, {"position": cell["scheme"]}, int(cell["updates"] or 0), seed)
        return [{"length": n, **vars(read(model, kind, n, seed)), "best": text(kind).best} for n in LENGTHS]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        error = rows.one("error", part="table")
        rises = {kind: _rise(rows, "sinusoidal", kind) for kind in TEXTS}
        others = ", ".join(
            f"{s} {round(_rise(rows, s, 'markov').mean, 2) + 0.0:+.2f}"
            for s in rows.distinct("scheme")
            if s != "sinusoidal"
        )
        shown = ", ".join(f"{kind} {rise}" for kind, rise in rises.items())
        return {
            "extends": Judgement(
                Verdict.SUPPORTED if error < 1e-6 else Verdict.REFUTED,
                Text(
                    en=f"The length of row {END} differs from sqrt(d/2) by {error:.1g}; a model with a table of 16 rows reads 64 tokens.",
                    zh=f"第 {END} 行的长度与 √(d/2) 相差 {error:.1g}；表只有 16 行的模型可以读 64 个词。",
                ),
            ),
            "any-length": Judgement(
                _verdict(list(rises.values())),
                Text(
                    en=f"Rise of the loss from {SEEN} to {FAR} tokens, nats: {shown}. Others on the Markov text: {others}.",
                    zh=f"从 {SEEN} 到 {FAR} 个词损失的升高（奈特）：{shown.replace('], ', ']，')}。其他方案在马尔可夫文本上：{others.replace(', ', '，')}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        near, far = ({kind: _loss(rows, "sinusoidal", kind, n) for kind in TEXTS} for n in (SEEN, FAR))
        flat = {kind: _flattest(rows, kind).replace("-0.00", "+0.00") for kind in TEXTS}
        alibi, none = (_rise(rows, each, "markov").mean for each in ("alibi", "none"))
        return Answer(
            short=Text(
                en=f"The table goes on for ever; the model need not follow. Trained on {SEEN} tokens and read on {FAR}, a sinusoidal model goes from "
                f"{near['markov']:.2f} to {far['markov']:.2f} nats a token on Markov text and from {near['delay']:.2f} to {far['delay']:.2f} when it has to repeat the "
                f"token three back; neither task is harder in longer texts. On Markov text ALiBi changes by {alibi:+.2f} and a model without positions by {none:+.2f}.",
                zh=f"表可以无限延伸，模型则未必。以 {SEEN} 个词训练、读 {FAR} 个词，正弦模型在马尔可夫文本上的损失由每词 {near['markov']:.2f} 变为 {far['markov']:.2f} 奈特，"
                f"在回看三个词的任务上由 {near['delay']:.2f} 变为 {far['delay']:.2f}；而任务本身并不因文本变长而变难。在马尔可夫文本上，ALiBi 变化 {alibi:+.2f}，"
                f"没有位置的模型变化 {none:+.2f}。",
            ),
            imprecise=Text(
                en="A function that is defined everywhere is not a model that was trained everywhere: rows beyond the learned length are vectors that no layer "
                f"has met in training. Least change among the schemes tried: {flat['markov']} (Markov), {flat['delay']} (three back).",
                zh=f"函数处处有定义，不等于模型处处受过训练：超出训练长度的行，是各层在训练中从未见过的向量。各方案中变化最小的：{flat['markov']}（马尔可夫），"
                f"{flat['delay']}（回看三个词）。",
            ),
            limits=Text(
                en=f"2 layers of width 32, learned length {SEEN}, {len(rows.where(part='length').distinct('seed'))} seed(s) for the sinusoids and at most 3 for the others, two tasks of near tokens; the learned table "
                f"has {TABLE} rows, of which {SEEN} were trained. Schemes that did not learn a task have little to lose: without positions and with ALiBi "
                f"the loss for the token three back is {_loss(rows, 'none', 'delay', SEEN):.2f} and {_loss(rows, 'alibi', 'delay', SEEN):.2f} nats even at {SEEN} tokens.",
                zh=f"两层、宽度 32，训练长度 {SEEN}，正弦方案 {len(rows.where(part='length').distinct('seed'))} 个随机种子，其余至多 3 个，两个任务都只需近处的词；可学习的位置表有 {TABLE} 行，"
                f"其中 {SEEN} 行受过训练。没学会任务的方案也就没什么可失去：回看三个词时，没有位置和 ALiBi 的损失在 {SEEN} 个词时已是 "
                f"{_loss(rows, 'none', 'delay', SEEN):.2f} 和 {_loss(rows, 'alibi', 'delay', SEEN):.2f} 奈特。",
            ),
            caption=Text(
                en="Loss at and beyond the learned length; the best possible is the dashed line at every length.",
                zh="训练长度及更长文本上的损失；虚线为任何长度上可能的最低损失。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, drawn = panels(len(TEXTS), width=4.8, height=3.8)
        for axes, kind in zip(drawn, TEXTS, strict=True):
            for place, scheme in enumerate(SCHEMES):
                if scheme in rows.distinct("scheme"):
                    found = [interval(rows.column("loss", task=kind, scheme=scheme, length=n)) for n in LENGTHS]
                    line(axes, LENGTHS, [each.mean for each in found], scheme, place)
            threshold(axes, rows.where(task=kind).mean("best"), "best possible")
            axes.axvline(SEEN, color="#999999", linewidth=1.0)
            axes.set_xscale("log", base=2)
            axes.set_xticks(LENGTHS, [str(each) for each in LENGTHS])
            label(axes, x="tokens of a text", y="loss (nats per token)", title=f"{kind}, learned with {SEEN} tokens")
        drawn[0].legend(fontsize=7)
        return figure


def _extended() -> Row:
    """Ask the package's scheme for a row far beyond its table, and a model for a text that is longer than its own."""
    width = 64
    row = Sinusoidal(width, 1, width, 1).add(torch.zeros(1, 1, width), torch.tensor([[END]]))
    model = build(decoder(9, {"length": SEEN}), 0).eval()
    model.decode(torch.ones(1, FAR, dtype=torch.long))
    return {"error": abs(float(row.double().norm()) - (width / 2) ** 0.5)}


def _loss(rows: Rows, scheme: str, kind: str, length: int) -> float:
    return rows.mean("loss", scheme=scheme, task=kind, length=length)


def _rise(rows: Rows, scheme: str, kind: str) -> Interval:
    found = rows.where(part="length", scheme=scheme, task=kind)
    return interval(found.paired("loss", {"length": FAR}, {"length": SEEN}))


def _flattest(rows: Rows, kind: str) -> str:
    """The scheme whose loss changes least."""
    name = min(rows.distinct("scheme"), key=lambda each: abs(_rise(rows, each, kind).mean))
    return f"{name} {_rise(rows, name, kind).mean:+.2f}"


def _verdict(rises: list[Interval]) -> Verdict:
    worse = sum(each.low > WORSE for each in rises)
    if worse:
        return Verdict.REFUTED if worse == len(rises) else Verdict.DEPENDS
    return Verdict.SUPPORTED if all(each.high < WORSE for each in rises) else Verdict.INCONCLUSIVE
