"""Why does BERT replace words in the input instead of hiding their scores?"""

from collections.abc import Callable, Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.data.synthetic import IGNORED
from clearhead.lab.parts.hidden_words import MASK, hidden_words
from clearhead.lab.pictures import COLOURS, bars, label, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import interval
from clearhead.lab.training import Plan, build, encoder, examples, fit, loss_of, task
from clearhead.model import AttentionMask, Transformer
from clearhead.model.two_streams import two_streams

VOCAB, LENGTH, PLACE = 23, 7, 3
NEAR_ZERO, WORSE = 0.1, 2.0  # nats in training; times the loss of replacement in use
SAFE = ("replaced", "two streams")


@QUESTIONS.register("bert-mask-vs-attention-mask")
class BertMaskVsAttentionMask(Question):
    """Exact leaks by changing the hidden word, then a small BERT trained either way."""

    topic = "masks"
    title = Text(
        en="Why does BERT replace words in the input; would hiding their scores do?",
        zh="BERT 为什么在输入端替换词？只屏蔽这些词的打分行不行？",
    )
    sources = (Source("000", "20"), Source("001", "R1"), Source("003", "I.21"))
    claims = (
        Claim(
            "untouched",
            Text(
                en="BERT's hidden words do not touch the attention; a decoder's mask has another purpose, to allow only the left context.",
                zh="BERT 的掩码不涉及注意力机制；解码器的遮挡另有目的：只允许看左边的上下文。",
            ),
            Source("000", "20"),
            note=Text(en="BERT too hides padding in its attention.", zh="BERT 的注意力同样要遮住填充。"),
        ),
        Claim(
            "not-needed",
            Text(
                en="As the input is masked already, no scores need to be hidden.",
                zh="因为输入已经替换过，所以不需要再屏蔽打分。",
            ),
            Source("001", "R1"),
            note=Text(
                en="It does not say why hiding scores could not replace it.",
                zh="没有说明为什么不能反过来用屏蔽打分代替。",
            ),
        ),
    )
    prediction = Text(
        en="Hiding the score column of a word leaves the word in its own residual stream and query, so its place still knows it; hiding only "
        "the diagonal leaks it through the neighbours from the second layer on. Replacement and a separate query stream are free of leaks.",
        zh="只屏蔽某个词的打分列，这个词仍留在自己的残差流和查询里，它所在的位置照样知道答案；只屏蔽对角线，从第二层起会经由邻居泄漏。"
        "替换输入和单独的查询流都不泄漏。",
    )
    criterion = Text(
        en="untouched and not-needed: supported if changing the hidden word changes the output at its place by exactly 0 for replacement "
        "and for two streams alone among all ways, and a model trained by hiding scores gets below 0.1 nats in training but has at least "
        "twice the loss of replacement when words are replaced in use (95 % interval); depends if the first holds and training shows "
        "otherwise; refuted if replacement leaks; else inconclusive.",
        zh="两条论断：若改动被隐藏的词时，只有输入替换与双流的输出变化恰为 0，且以屏蔽打分训练的模型训练损失低于 0.1 奈特、而在输入被替换时"
        "损失至少为替换训练的两倍（95% 区间），则成立；若满足前者而训练表明并非如此，则视情况而定；若替换也泄漏则不成立；其余为尚无定论。",
    )
    parts = ("clearhead.model.mask:AttentionMask", "clearhead.model.two_streams:two_streams")
    references = (
        "Devlin et al., 2019, arXiv:1810.04805, section 3.1, task 1",
        "Yang et al., 2019, arXiv:1906.08237, section 2.3 (two streams)",
        "Shin, Lee and Jung, 2020, arXiv:2004.08097 (T-TA, a diagonal mask with queries from elsewhere; not run here)",
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2.3",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=3):
            for layers in (1, 2):
                for residual in ("pre", "none"):
                    yield {"part": "leak", "layers": layers, "residual": residual, "seed": seed}
            for way in ("replaced", "column hidden"):
                updates = scale.pick(quick=60, full=900)
                yield {"part": "training", "way": way, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        if cell["part"] == "training":
            return [_learned(str(cell["way"]), int(cell["updates"] or 0), seed)]
        return _leaks(int(cell["layers"] or 0), str(cell["residual"]), seed)

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        leak = {
            str(way): rows.where(part="leak").column("leak", way=way) for way in rows.where(part="leak").distinct("way")
        }
        safe = max(max(leak[each]) for each in SAFE)
        unsafe = {way: max(found) for way, found in leak.items() if way not in SAFE}
        clean = safe == 0.0 and min(unsafe.values()) > 0.0
        trained = rows.where(part="training")
        hidden, used = trained.mean("training", way="column hidden"), interval(_ratios(trained))
        if safe > 0.0:
            verdict = Verdict.REFUTED
        elif clean and hidden < NEAR_ZERO and used.low >= WORSE:
            verdict = Verdict.SUPPORTED
        else:
            works = hidden >= NEAR_ZERO or used.high < WORSE
            verdict = Verdict.DEPENDS if clean and works else Verdict.INCONCLUSIVE
        evidence = Text(
            en=f"Leak at the word's own place: replacement and two streams {safe:g}, column hidden {unsafe['column hidden']:.2g}, diagonal "
            f"hidden {unsafe['diagonal hidden']:.2g}. Trained with hidden columns: {hidden:.2g} nats in training, in use {used} times the "
            "loss of a model trained with replacement.",
            zh=f"该词位置上的泄漏：替换与双流为 {safe:g}，屏蔽列为 {unsafe['column hidden']:.2g}，屏蔽对角线为 "
            f"{unsafe['diagonal hidden']:.2g}。以屏蔽列训练：训练损失 {hidden:.2g} 奈特，使用时的损失为替换训练的 {used} 倍。",
        )
        return {each.key: Judgement(verdict, evidence) for each in self.claims}

    def answer(self, rows: Rows) -> Answer:
        trained = rows.where(part="training")
        hidden, used, right = (
            trained.mean("training", way="column hidden"),
            trained.mean("used", way="column hidden"),
            trained.mean("used", way="replaced"),
        )
        return Answer(
            short=Text(
                en="A hidden score stops others from reading a word, not its own place: the residual stream and the query there still hold "
                f"it. A model trained with hidden scores gets to {hidden:.2g} nats in training and to {used:.2f} when the words are really "
                f"replaced; one trained with replaced words has {right:.2f} there. Replacement takes the word away before anything has "
                "seen it; XLNet's second stream does so too.",
                zh=f"屏蔽打分只能阻止别的位置读到这个词，它自己的位置在残差流和查询里仍保留着它。这样训练的模型，训练损失为 {hidden:.2g} 奈特，"
                f"词真的被替换时为 {used:.2f} 奈特；用替换训练的模型在同样条件下为 {right:.2f}。替换是在任何部分看到之前就把词拿走；"
                "XLNet 的第二条流也能做到。",
            ),
            imprecise=Text(
                en="Replacement is not a matter of taste: a word stays in its own residual stream and query, which no mask on keys reaches. 'No masking in the attention' is "
                "too strong, since padding is hidden there.",
                zh="替换并非可有可无：词留在自己的残差流和查询里，对键的遮挡够不着那里。说“注意力中没有遮挡”也不准确，填充仍要遮住。",
            ),
            limits=Text(
                en=f"Small encoders; training on text of a small grammar with {len(trained.distinct('seed'))} seed(s). The model "
                "with hidden scores has never met the symbol that replaces words in use. T-TA was not built.",
                zh=f"小型编码器；训练用小语法生成的文本，{len(trained.distinct('seed'))} 个随机种子。以屏蔽打分训练的"
                "模型在训练中从未见过用来替换词的符号。没有实现 T-TA。",
            ),
            caption=Text(
                en="Left: how much the output at a hidden word's place changes with the word. Right: loss in training and in use.",
                zh="左：被隐藏的词改变时，该位置输出的变化。右：训练时与使用时的损失。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (table, losses) = panels(2, width=5.2)
        leaks = rows.where(part="leak")
        settings = [(n, r) for n in leaks.distinct("layers") for r in leaks.distinct("residual")]
        ways = leaks.distinct("way")
        for r, way in enumerate(ways):
            for c, (layers, residual) in enumerate(settings):
                found = max(leaks.column("leak", way=way, layers=layers, residual=residual))
                colour = COLOURS[1 if found else 2]
                table.text(c, r, f"{found:.1g}", ha="center", va="center", color=colour, fontweight="bold")
        table.set_xlim(-0.5, len(settings) - 0.5)
        table.set_ylim(len(ways) - 0.5, -0.5)
        names = [f"{n} layer{'s' * (n > 1)}\n{'residual' if r == 'pre' else 'no residual'}" for n, r in settings]
        table.set_xticks(range(len(settings)), names, fontsize=8)
        table.set_yticks(range(len(ways)), ways)
        table.grid(visible=False)
        label(table, x="", y="way to hide a word", title="leak at its own place (float64)")
        trained = rows.where(part="training")
        shown = [(w, c) for w in ("replaced", "column hidden") for c in ("training", "used")]
        bars(losses, [f"{w},\n{'in use' if c == 'used' else 'in training'}" for w, c in shown],
             [interval(trained.column(c, way=w)) for w, c in shown])  # fmt: skip
        losses.tick_params(axis="x", labelsize=8)
        label(losses, x="", y="loss (nats per hidden word)")
        return figure


def _leaks(layers: int, residual: str, seed: int) -> Iterable[Row]:
    """The most that the output at PLACE changes when the word there is any other one, for each way to hide it."""
    model = build(encoder(VOCAB, {"encoder_layers": layers, "residual": residual}), seed).double().eval()
    tokens = (
        torch.randint(3, VOCAB, (1, LENGTH), generator=torch.Generator().manual_seed(seed)).expand(VOCAB, -1).clone()
    )
    tokens[:, PLACE] = torch.arange(VOCAB)  # every word in that place, one a row
    column = torch.arange(LENGTH) != PLACE
    ways: dict[str, Callable[[], Tensor]] = {
        "replaced": lambda: model.encode(tokens.masked_fill(~column, MASK)).hidden,
        "two streams": lambda: _query_stream(model, tokens),
        "column hidden": lambda: model.encode(tokens, mask=AttentionMask(allowed=column)).hidden,
        "diagonal hidden": lambda: model.encode(tokens, mask=AttentionMask(own=False)).hidden,
    }
    for way, compute in ways.items():
        with torch.no_grad():
            found = compute()[:, PLACE]
        yield {"way": way, "leak": float((found - found[0]).abs().max())}


def _query_stream(model: Transformer, tokens: Tensor) -> Tensor:
    """(batch, length, d_model): each place from all words but the one at PLACE, which is predicted last."""
    order = (torch.arange(LENGTH) == PLACE).long().expand(len(tokens), -1)
    both = torch.cat([tokens, torch.full_like(tokens, MASK)], dim=1)  # (batch, 2 * length)
    positions = torch.arange(LENGTH).repeat(2)[None]
    return model.encode(both, mask=two_streams(order), positions=positions).hidden[:, LENGTH:]


def _learned(way: str, updates: int, seed: int) -> Row:
    """Losses of a small BERT: as it was trained, and with words replaced, on fresh text."""
    text = task("pcfg", {"length": 16})
    model = build(encoder(text.vocab), seed)

    def loss(generator: torch.Generator) -> Tensor:
        return _loss(model, text.draw(32, generator).tokens, way, generator)

    for _ in fit(model, loss, Plan(updates=updates), seed):
        pass
    model.eval()
    fresh, generator = examples(text, 512, seed, "use").tokens, torch.Generator().manual_seed(seed)
    with torch.no_grad():
        training = _loss(model, fresh, way, generator)
        used = _loss(model, fresh, "replaced", torch.Generator().manual_seed(seed))
    return {"training": float(training), "used": float(used)}


def _loss(model: Transformer, tokens: Tensor, way: str, generator: torch.Generator) -> Tensor:
    """Nats per hidden word."""
    hidden = hidden_words(tokens, generator)
    labels = tokens.masked_fill(~hidden, IGNORED)
    if way == "replaced":
        return loss_of(model.logits(model.encode(tokens.masked_fill(hidden, MASK)).hidden), labels)
    columns = AttentionMask(allowed=~hidden[:, None, None])  # (batch, 1, 1, length)
    return loss_of(model.logits(model.encode(tokens, mask=columns).hidden), labels)


def _ratios(trained: Rows) -> list[float]:
    """Loss in use of hiding columns over that of replacement, by seed."""
    right = {row["seed"]: float(row["used"] or 0) for row in trained.where(way="replaced")}
    return [float(row["used"] or 0) / right[row["seed"]] for row in trained.where(way="column hidden")]
