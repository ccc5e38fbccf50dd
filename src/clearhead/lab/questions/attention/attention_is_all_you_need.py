"""In what sense is attention all you need?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from matplotlib.figure import Figure

from clearhead.lab.parts.silenced import silenced
from clearhead.lab.pictures import bars, label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval
from clearhead.lab.training import Plan, build, decoder, encoder, score, task, train
from clearhead.model import OPEN, Transformer
from clearhead.model.position.base import UNRELATED

DEPTH, LENGTH, VOCAB = 12, 16, 23
COLLAPSED, BY_LAYER = 1e-3, 6  # the part of the stream that differs between tokens
COSTLY = 0.10  # accuracy
TASKS = {"copy": {"length": 8}, "recall": {"pairs": 4, "keys": 8, "values": 8}}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "full": {},
    "no attention": {},
    "no feed-forward": {},
    "no residual": {"residual": "none"},
    "no positions": {"position": "none"},
    "LSTM": {"stack": "lstm", "d_model": 48, "position": "none"},
    "convolution": {"stack": {"kind": "convolution", "width": 5}},  # sees 13 tokens, enough for both tasks
}
OTHERS = ("LSTM", "convolution")
PARTS = ("none", "skip", "feed-forward", "both")


@QUESTIONS.register("attention-is-all-you-need")
class AttentionIsAllYouNeed(Question):
    """What becomes of tokens in a deep stack of attention alone; then each part is left out, or attention replaced."""

    topic = "attention"
    title = Text(
        en="In what sense is attention all you need, and what cannot be left out?",
        zh="“只需要注意力”在什么意义上成立？哪些部分不能去掉？",
    )
    sources = (Source("003", "IV.24"),)
    claims = (
        Claim(
            "literally",
            Text(en="Attention suffices.", zh="有注意力就够了。"),
            Source("003", "IV.24"),
            note=Text(
                en="The paper's claim is relative to recurrence and convolution.",
                zh="论文的说法是相对于循环和卷积而言的。",
            ),
        ),
        Claim(
            "no-recurrence",
            Text(en="Recurrence and convolution are not needed.", zh="不需要循环和卷积。"),
            Source("003", "IV.24"),
        ),
    )
    prediction = Text(
        en="Attention alone makes all tokens alike within a few layers; the residual prevents it. Without residual, feed-forward network or "
        "positions the model learns worse. Against LSTM and convolution of equal size attention holds its own on looking things up.",
        zh="只有注意力时，几层之内所有词就变得一样；残差能防止这一点。去掉残差、前馈网络或位置编码，模型都学得更差。在查找类任务上，注意力不逊于同样大小的 LSTM 和卷积。",
    )
    criterion = Text(
        en="literally: refuted if in a stack of attention alone the part of the stream that differs between tokens falls below 0.001 by layer 6, or "
        "leaving out residual or feed-forward network costs more than 10 points of accuracy on a task (paired interval); else supported. "
        "no-recurrence: for each task and rival the full model holds if the interval of its advantage lies above -10 points and loses if it "
        "lies below 0; supported if it always holds, refuted if it always loses, depends if each happens, else inconclusive.",
        zh="字面：若只有注意力的堆叠在第 6 层之前，词与词之间的差异部分降到 0.001 以下，或去掉残差或前馈网络在某个任务上损失超过 10 个百分点（配对区间），"
        "则不成立；否则成立。循环：对每个任务和对手，若完整模型优势的区间在 -10 个百分点以上，记为守住；在 0 以下记为落败；全部守住则成立，全部落败则不成立，两者都有则视情况而定，其余尚无定论。",
    )
    parts = (
        "clearhead.model.residual.placement:NoResidual",
        "clearhead.model.stack.recurrent:Lstm",
        "clearhead.model.stack.convolution:ConvolutionStack",
    )
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, sections 1, 4 and 7",
        "Dong, Cordonnier and Loukas, 2021, arXiv:2103.03404",
        "Lee-Thorp et al., 2022, arXiv:2105.03824",
        "Tolstikhin et al., 2021, arXiv:2105.01601",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=5):
            for with_parts in PARTS:
                yield {"part": "collapse", "parts": with_parts, "seed": seed}
        updates = scale.pick(quick=20, full=300)
        for seed in scale.seeds(quick=1, full=4):
            for name in TASKS:
                for model in MODELS:
                    yield {"part": "training", "task": name, "model": model, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        if cell["part"] == "collapse":
            return _collapse(str(cell["parts"]), seed)
        name = str(cell["model"])
        wanted = task(str(cell["task"]), TASKS[str(cell["task"])])
        model = build(decoder(wanted.vocab, {"position": "rope", **MODELS[name]}), seed)
        with _left_out(name, model):
            for _ in train(model, wanted, Plan(updates=int(cell["updates"] or 0), batch=64, rate=5e-3), seed):
                pass
            found = score(model, wanted, seed)
        size = sum(each.numel() for each in model.parameters())
        return [{"accuracy": found.accuracy, "loss": found.loss, "parameters": size}]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        alone = rows.mean("differs", part="collapse", parts="none", layer=BY_LAYER)
        costs = {(t, m): _below(rows, t, m) for t in TASKS for m in ("no residual", "no feed-forward")}
        needed = alone < COLLAPSED or any(each.low > COSTLY for each in costs.values())
        against = {(t, m): _below(rows, t, m) for t in TASKS for m in OTHERS}
        recurrence = _recurrence(list(against.values()))
        return {
            "literally": Judgement(
                Verdict.REFUTED if needed else Verdict.SUPPORTED,
                Text(
                    en=f"In attention alone {alone:.1g} of the stream differs between tokens after {BY_LAYER} layers; accuracy of the "
                    "full model minus that of "
                    + ", ".join(f"{m} on {t}: {each}" for (t, m), each in costs.items())
                    + ".",
                    zh=f"只有注意力时，{BY_LAYER} 层之后词间差异占 {alone:.1g}；完整模型的正确率减去："
                    + "，".join(f"{_NAMES[m]}（{_NAMES[t]}）{each}" for (t, m), each in costs.items())
                    + "。",
                ),
            ),
            "no-recurrence": Judgement(
                recurrence,
                Text(
                    en="Accuracy of the full model minus that of "
                    + ", ".join(f"{m} on {t}: {each}" for (t, m), each in against.items())
                    + ".",
                    zh="完整模型的正确率减去："
                    + "，".join(f"{_NAMES[m]}（{_NAMES[t]}）{each}" for (t, m), each in against.items())
                    + "。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        found = {(t, m): rows.mean("accuracy", part="training", task=t, model=m) for t in TASKS for m in MODELS}
        listed = {t: ", ".join(f"{m} {found[t, m]:.0%}" for m in MODELS) for t in TASKS}
        chinese = {t: "，".join(f"{_NAMES[m]} {found[t, m]:.0%}" for m in MODELS) for t in TASKS}
        sizes = {m: rows.mean("parameters", part="training", task="recall", model=m) for m in ("full", *OTHERS)}
        skip = rows.mean("differs", part="collapse", parts="skip", layer=BY_LAYER)
        alone = rows.mean("differs", part="collapse", parts="none", layer=BY_LAYER)
        return Answer(
            short=Text(
                en="The title speaks of attention in place of recurrence and convolution, not of attention and nothing else. In layers of attention "
                f"alone {alone:.1g} of the stream still differs between tokens after {BY_LAYER} layers, {skip:.2g} with residuals. Right answers, copy: {listed['copy']}; "
                f"recall: {listed['recall']}.",
                zh=f"标题说的是用注意力取代循环和卷积，而不是除了注意力什么都不要。只有注意力时，{BY_LAYER} 层后词与词之间的差异占 {alone:.1g}，有残差时占 {skip:.2g}。"
                f"正确率，复制：{chinese['copy']}；查找：{chinese['recall']}。",
            ),
            imprecise=Text(
                en="The title says which part was new, not which part suffices: residuals keep tokens apart, feed-forward networks compute on each of "
                "them, positions tell their order.",
                zh="标题说的是哪一部分是新的，而不是哪一部分就够用：残差使各词保持差异，前馈网络对每个词做计算，位置编码说明顺序。",
            ),
            limits=Text(
                en="Two tasks of looking things up, decoders of 2 layers, width 32, LSTM 48; parameters on recall: "
                f"{', '.join(f'{m} {size:,.0f}' for m, size in sizes.items())}. "
                f"{len(rows.where(part='training').distinct('seed'))} seed(s), one learning rate, no Fourier mixing; collapse at random weights.",
                zh="两个查找类任务，两层解码器，宽度 32，LSTM 为 48；查找任务上的参数量："
                f"{'，'.join(f'{_NAMES[m]} {size:,.0f}' for m, size in sizes.items())}。{len(rows.where(part='training').distinct('seed'))} 个随机种子，"
                "一个学习率，未试傅里叶混合；坍缩在随机权重下测量。",
            ),
            caption=Text(
                en="Left: how much of the stream still differs between tokens. Right: accuracy with a part left out or replaced.",
                zh="左：词与词之间还剩多少差异。右：去掉或替换某部分后的正确率。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, axes = panels(3, width=4.4)
        collapse = rows.where(part="collapse")
        for place, with_parts in enumerate(PARTS):
            table = collapse.where(parts=with_parts)
            layers = table.distinct("layer")
            values = [max(table.mean("differs", layer=each), 1e-9) for each in layers]
            line(axes[0], layers, values, {"none": "attention alone"}.get(with_parts, f"with {with_parts}"), place)
        axes[0].set_yscale("log")
        threshold(axes[0], COLLAPSED, "criterion")
        axes[0].legend(fontsize=7)
        label(axes[0], x="layer", y="share of the stream that differs")
        for panel, name in zip(axes[1:], TASKS, strict=True):
            found = [interval(rows.column("accuracy", part="training", task=name, model=each)) for each in MODELS]
            bars(panel, list(MODELS), found)
            panel.tick_params(axis="x", labelrotation=60, labelsize=8)
            panel.set_ylim(0, 1.05)
            label(panel, x="", y="accuracy", title=name)
        return figure


_NAMES = {
    "full": "完整",
    "no attention": "无注意力",
    "no feed-forward": "无前馈",
    "no residual": "无残差",
    "no positions": "无位置",
    "LSTM": "LSTM",
    "convolution": "卷积",
    "copy": "复制",
    "recall": "查找",
}


@torch.no_grad()
def _collapse(with_parts: str, seed: int) -> Iterator[Row]:
    """|X - mean over tokens| / |X| after each layer of random attention, with or without skip and feed-forward network."""
    model = build(encoder(VOCAB, {"encoder_layers": DEPTH}), seed).double().eval()
    hidden = torch.randn(8, LENGTH, 32, generator=torch.Generator().manual_seed(seed)).double()
    skip, network = with_parts in ("skip", "both"), with_parts in ("feed-forward", "both")

    for number in range(1, DEPTH + 1):
        block: Any = model.get_submodule(f"encoder.blocks.{number - 1}")
        attention = block.attention
        mixed = attention.merge(attention.kernel(*attention.projections.all(hidden), OPEN, UNRELATED))
        hidden = mixed + (hidden if skip else 0.0)
        if network:
            hidden = block.feedforward(hidden) + (hidden if skip else 0.0)
        apart = hidden - hidden.mean(dim=1, keepdim=True)
        yield {"layer": number, "differs": float((apart.norm(dim=(1, 2)) / hidden.norm(dim=(1, 2))).mean())}


@contextmanager
def _left_out(name: str, model: Transformer) -> Iterator[None]:
    """Silence the part that the name says is missing."""
    parts = {"no attention": "attention", "no feed-forward": "feedforward"}
    blocks = getattr(model.decoder, "blocks", [])
    with silenced([getattr(each, parts[name]) for each in blocks]) if name in parts else nullcontext():
        yield


def _recurrence(against: Sequence[Interval]) -> Verdict:
    """What the differences between full and other models say, all of them together."""
    held, lost = [each.low > -COSTLY for each in against], [each.high < 0 for each in against]
    if all(held):
        return Verdict.SUPPORTED
    if not all(h or b for h, b in zip(held, lost, strict=True)):
        return Verdict.INCONCLUSIVE
    return Verdict.DEPENDS if any(held) else Verdict.REFUTED


def _below(rows: Rows, name: str, model: str) -> Interval:
    """Accuracy of the full model minus that of another, by seed."""
    about: Cell = {"part": "training", "task": name}
    return interval(rows.paired("accuracy", {**about, "model": "full"}, {**about, "model": model}))
