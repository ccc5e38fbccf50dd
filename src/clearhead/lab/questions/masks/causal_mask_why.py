"""Why is the future hidden in training?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean, stdev

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.data.synthetic import Task
from clearhead.lab.pictures import bars, label, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import equivalent, interval
from clearhead.lab.training import Plan, build, decoder, examples, fit, loss_of, task
from clearhead.model import CAUSAL, OPEN, AttentionMask, Transformer

LENGTH, SYMBOLS, PROBES = 16, 16, 512
SAME = 0.01  # two losses count as one within this share
SOLVED = 0.05  # nats; random tokens have log 16 = 2.8
VISIBLE = {"hidden": CAUSAL, "visible": OPEN}


@QUESTIONS.register("causal-mask-why")
class CausalMaskWhy(Question):
    """A source with a known entropy: a training loss below it is proof of reading the answer."""

    topic = "masks"
    title = Text(
        en="Why must the future be hidden in training, and what goes wrong without it?",
        zh="训练时为什么必须遮住后面的词？不遮会出现什么问题？",
    )
    sources = (
        Source("002", "1.4"),
        Source("002", "1.4(1)"),
        Source("000", "16"),
        Source("000", "20"),
        Source("003", "I.16"),
    )
    claims = (
        Claim(
            "consistency",
            Text(
                en="At inference the coming words do not exist, so hiding them in training keeps both alike and gives better results.",
                zh="推理时后面的词并不存在，训练时遮住它们可使两者一致，效果更好。",
            ),
            Source("002", "1.4(1)"),
        ),
        Claim(
            "which-words",
            Text(
                en="When the third word is predicted, that word and those after it are hidden.",
                zh="预测第三个词时，这个词及其后面的词都被遮住。",
            ),
            Source("002", "1.4(1)"),
            note=Text(
                en="The mask alone lets a position see itself; it is the shift of inputs by one that hides the word itself.",
                zh="仅靠遮挡，每个位置仍能看到自己；真正挡住目标词本身的是输入右移一位。",
            ),
        ),
        Claim(
            "leakage",
            Text(
                en="Hiding the future prevents leakage and fits generation from left to right.",
                zh="遮住未来可以防止信息泄漏，并与从左到右的生成相符。",
            ),
            Source("000", "16"),
        ),
    )
    prediction = Text(
        en="With the future visible the training loss falls below the entropy of the source, which only copying can do, and the loss of "
        "predicting from a prefix, all that generation has, is worse than with the mask. Without the shift the mask does not help: "
        "even random tokens are predicted.",
        zh="未来可见时，训练损失会低于信源的熵，这只有抄答案才做得到；而只凭前缀预测（生成时仅有前缀）的损失比有遮挡时更差。"
        "如果输入不右移，遮挡也无济于事：连随机的词都能“预测”。",
    )
    criterion = Text(
        en="consistency: supported if, paired by seed, the loss from prefixes is higher without the mask (95 % interval above 0) and the two "
        "losses of the masked model agree within 1 %; refuted if the first is lower (interval below 0) or the second do not agree; else "
        "inconclusive. leakage: supported if the unmasked training loss is below the entropy rate by more than 3 standard errors and the "
        "masked one is not, and changing later tokens changes masked logits by exactly 0; refuted if the masked one is below too or later "
        "tokens change masked logits; else inconclusive. which-words: "
        "depends if a mask without the shift brings the loss on random tokens below 0.05 nats, else supported.",
        zh="一致：按种子配对，不遮挡时只凭前缀的损失更高（95% 区间在 0 以上），且遮挡模型的两种损失相差不到 1%，则成立；若前者更低"
        "（区间在 0 以下）或后者不一致，则不成立；否则尚无定论。泄漏：不遮挡的训练损失"
        "低于熵率 3 个标准误以上而遮挡的不低于，且改动后面的词对遮挡模型的 logits 影响恰为 0，则成立；若遮挡的也低于熵率，"
        "或后面的词影响其 logits，则不成立；否则尚无定论。哪些词：若有遮挡而不右移时，"
        "随机词上的损失降到 0.05 奈特以下，则视情况而定，否则成立。",
    )
    parts = ("clearhead.model.mask:AttentionMask", "clearhead.model.transformer:Transformer")
    references = ("Vaswani et al., 2017, arXiv:1706.03762, sections 3.1 and 3.2.3",)

    def cells(self, scale: Scale) -> Iterable[Cell]:
        updates = scale.pick(quick=120, full=400)
        for seed in scale.seeds(quick=2, full=6):
            for future in VISIBLE:
                yield {"part": "markov", "future": future, "updates": updates, "seed": seed}
        for seed in scale.seeds(quick=1, full=2):
            yield {"part": "no shift", "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        updates, seed = int(cell["updates"] or 0), int(cell["seed"] or 0)
        markov = task("markov", {"symbols": SYMBOLS, "length": LENGTH})
        if cell["part"] == "no shift":
            return [{"loss": _without_shift(updates, seed)}]
        mask = VISIBLE[str(cell["future"])]
        model = build(decoder(markov.vocab, {"length": 64}), seed)
        for _ in fit(model, _loss_under(model, markov, mask), Plan(updates=updates), seed):
            pass
        return [
            {"entropy": markov.best, "leak": _leak(model, markov, mask, seed), **_losses(model, markov, mask, seed)}
        ]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        markov = rows.where(part="markov")
        worse = interval(markov.paired("prefix", {"future": "visible"}, {"future": "hidden"}))
        masked = [float(r["prefix"] or 0) / float(r["forced"] or 1) - 1.0 for r in markov.where(future="hidden")]
        excess = {each: _excess(markov, each) for each in VISIBLE}
        below = {each: interval(found) for each, found in excess.items()}
        leak = max(markov.column("leak", future="hidden"))
        unshifted = max(rows.column("loss", part="no shift"))
        agree = equivalent(masked, SAME) or max(map(abs, masked)) < 1e-4
        cheated, leaks = _below(excess["visible"]), leak > 0.0 or _below(excess["hidden"])
        against = worse.below or not agree
        return {
            "consistency": Judgement(
                Verdict.REFUTED if against else Verdict.SUPPORTED if worse.above else Verdict.INCONCLUSIVE,
                Text(
                    en="Loss from prefixes alone, trained with the future visible minus trained with it hidden: "
                    f"{worse} nats. With it hidden, losses in training and from prefixes differ by up to {max(map(abs, masked)):.1g} of the loss.",
                    zh=f"只凭前缀时的损失，训练中能看到未来的减去看不到的：{worse} 奈特。遮住未来的模型，训练时与只凭前缀时的损失相对相差不超过 "
                    f"{max(map(abs, masked)):.1g}。",
                ),
            ),
            "which-words": Judgement(
                Verdict.DEPENDS if unshifted < SOLVED else Verdict.SUPPORTED,
                Text(
                    en=f"With the mask but without the shift the loss on random tokens is {unshifted:.2g} nats after training.",
                    zh=f"有遮挡但不右移时，训练后随机词上的损失为 {unshifted:.2g} 奈特。",
                ),
            ),
            "leakage": Judgement(
                Verdict.REFUTED if leaks else Verdict.SUPPORTED if cheated else Verdict.INCONCLUSIVE,
                Text(
                    en=f"Training loss minus entropy: {below['visible']} nats with the future visible, {below['hidden']} with it hidden; "
                    f"later tokens change masked logits by {leak:g}.",
                    zh=f"训练损失减去熵：未来可见时 {below['visible']} 奈特，遮住时 {below['hidden']} 奈特；后面的词对遮挡模型 logits 的影响为 {leak:g}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        markov = rows.where(part="markov")
        entropy = markov.mean("entropy")
        open_, prefix = (markov.mean(each, future="visible") for each in ("forced", "prefix"))
        hidden = markov.mean("prefix", future="hidden")
        return Answer(
            short=Text(
                en=f"The source has an entropy of {entropy:.2f} nats a token, so no honest model can do better: a loss below it comes from "
                f"reading the answer. With the future visible, training shows {open_:.2f}. From a prefix, all that generation has, the same model needs "
                f"{prefix:.2f}, the masked one {hidden:.2f}.",
                zh=f"信源的熵为每词 {entropy:.2f} 奈特，任何诚实的模型都不可能更低；低于它就是在抄答案。未来可见时训练损失为 {open_:.2f}；"
                f"而只凭前缀（生成时仅有前缀），同一模型需要 {prefix:.2f}，有遮挡的模型为 {hidden:.2f}。",
            ),
            imprecise=Text(
                en="Two devices are needed: the mask hides what comes later, the shift of inputs by one hides the word itself. A difference "
                "between training and generation remains: training reads true prefixes, generation its own.",
                zh="需要两样东西：遮挡挡住后面的词，输入右移一位挡住目标词本身。训练与生成之间仍有差别：训练读的是真实前缀，生成读的是自己写的前缀。",
            ),
            limits=Text(
                en=f"A first-order Markov source of {SYMBOLS} symbols, 2 layers of width 32, {len(markov.distinct('seed'))} seed(s).",
                zh=f"{SYMBOLS} 个符号的一阶马尔可夫信源，两层、宽度 32，{len(markov.distinct('seed'))} 个随机种子。",
            ),
            caption=Text(
                en="Loss in training and from prefixes. A bar that ends below the line is impossible without reading the answer.",
                zh="训练时与只凭前缀时的损失。柱顶低于虚线，不看答案是不可能做到的。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        markov = rows.where(part="markov")
        figure, (axes,) = panels(1, width=6.4)
        names, values = [], []
        for future in VISIBLE:
            for column, what in (("forced", "in training"), ("prefix", "from prefixes")):
                names.append(f"future {future},\n{what}")
                values.append(interval(markov.column(column, future=future)))
        bars(axes, names, values)
        threshold(axes, markov.mean("entropy"), "entropy of the source")
        axes.legend()
        label(axes, x="", y="loss (nats per token)")
        return figure


def _loss_under(model: Transformer, markov: Task, mask: AttentionMask) -> Callable[[torch.Generator], Tensor]:
    def loss(generator: torch.Generator) -> Tensor:
        samples = markov.draw(32, generator)
        return loss_of(model.logits(model.decode(samples.tokens, mask=mask)), samples.labels)

    return loss


@torch.no_grad()
def _losses(model: Transformer, markov: Task, mask: AttentionMask, seed: int) -> Row:
    """The loss that training sees, and that of predicting each token from its prefix alone."""
    samples = examples(markov, PROBES, seed, "losses")
    model.eval()
    forced = loss_of(model.logits(model.decode(samples.tokens, mask=mask)), samples.labels)
    prefixes = [
        loss_of(
            model.logits(model.decode(samples.tokens[:, : end + 1], mask=mask)[:, -1:]), samples.labels[:, end, None]
        )
        for end in range(samples.tokens.shape[1])
    ]
    return {"forced": float(forced), "prefix": float(torch.stack(prefixes).mean())}


@torch.no_grad()
def _leak(model: Transformer, markov: Task, mask: AttentionMask, seed: int) -> float:
    """The most that changing every later token changes the logits of the first half."""
    tokens = examples(markov, 32, seed, "leak").tokens
    half = tokens.shape[1] // 2
    changed = tokens.clone()
    changed[:, half:] = changed[:, half:].flip(1).roll(1, dims=0)
    before, after = (model.logits(model.decode(each, mask=mask))[:, :half] for each in (tokens, changed))
    return float((before - after).abs().max())


def _without_shift(updates: int, seed: int) -> float:
    """The loss of saying each random token while reading it: mask, but no shift."""
    model = build(decoder(SYMBOLS), seed)

    def loss(generator: torch.Generator) -> Tensor:
        tokens = torch.randint(SYMBOLS, (32, LENGTH), generator=generator)
        return loss_of(model.logits(model.decode(tokens)), tokens)

    return [step.loss for step in fit(model, loss, Plan(updates=updates), seed)][-1]


def _excess(markov: Rows, future: str) -> list[float]:
    return [float(r["forced"] or 0) - float(r["entropy"] or 0) for r in markov.where(future=future)]


def _below(differences: Sequence[float]) -> bool:
    """The mean is below 0 by more than 3 standard errors."""
    return len(differences) > 1 and mean(differences) + 3 * stdev(differences) / len(differences) ** 0.5 < 0
