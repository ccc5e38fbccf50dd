"""Is the unequal length of sentences the real obstacle to batch normalisation in text?"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.data.synthetic import Samples, Task
from clearhead.lab.parts.replacing import replace_parts
from clearhead.lab.parts.whole_source import WholeSource
from clearhead.lab.pictures import bars, grouped, label, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, equivalent, interval
from clearhead.lab.training import Plan, build, encoder, fit, logits, loss_of, score, task
from clearhead.model import Transformer
from clearhead.model.norm import BatchNorm, LayerNorm, PositionalBatchNorm

LENGTHS = (5,) * 9 + (20,)  # the example that is told
FEATURES, PADDING = 16, 12
SAME = 1e-6
CLOSE, FAR = 0.01, 0.05  # accuracy
BATCH, POOL = 32, 8  # sentences; batches that are sorted by length together
NORMS_ON_TRIAL = {
    "layernorm": "LayerNorm",
    "masked": "BatchNorm,\nmasked",
    "pads in": "BatchNorm,\npads in",
    "position": "BatchNorm,\nper position",
}
TEXT = {"classes": 10, "shortest": 2, "longest": 24, "clarity": 0.3}
ORDER = {"length": 8, "shortest": 2, "form": "encoder_decoder"}
UPDATES = {"topics": 120, "reverse": 180}
TRIED = {"topics": ("layernorm", "masked", "pads in", "position"), "reverse": ("layernorm", "masked", "position")}


class PadsIn(BatchNorm):
    """Counts padding as if it were text."""

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        return super().forward(hidden)


MAKERS: Mapping[str, Callable[[int], LayerNorm | BatchNorm]] = {
    "layernorm": LayerNorm,
    "masked": BatchNorm,
    "pads in": PadsIn,
    "position": PositionalBatchNorm,
}


@QUESTIONS.register("batchnorm-variable-length")
class BatchnormVariableLength(Question):
    """The told example in numbers, what padding changes, and classifiers with random and with bucketed batches."""

    topic = "norm-residual"
    title = Text(
        en="Is unequal length the real obstacle to BatchNorm in text, and do padding or buckets change the answer?",
        zh="句子长短不一是不是文本任务弃用批归一化的真正原因？填充和按长度分桶会改变结论吗？",
    )
    sources = (
        Source("002", "1.3(2)2)"),
        Source("002", "1.3(2)2)②"),
        Source("002", "1.3(2)3)"),
        Source("004", "3"),
        Source("000", "12"),
    )
    claims = (
        Claim(
            "impossible",
            Text(
                en="With sentences of different length BatchNorm cannot be applied, and zero padding makes its "
                "statistics meaningless.",
                zh="句子长短不一时无法使用批归一化，补零还会使统计量失去意义。",
            ),
            Source("004", "3"),
            note=Text(en="Padding need not be counted.", zh="填充位置完全可以不计入。"),
        ),
        Claim(
            "late",
            Text(
                en="With nine sentences of 5 words and one of 20, the statistics of places 6 to 20 rest on one "
                "sentence.",
                zh="九句长 5、一句长 20 时，第 6 至 20 个位置的统计量只来自一个句子。",
            ),
            Source("002", "1.3(2)2)②"),
            note=Text(en="True of statistics for each place only.", zh="仅对按位置分别统计的做法成立。"),
        ),
        Claim(
            "buckets",
            Text(
                en="Batches of sentences of similar length remove the problem.",
                zh="把长度相近的句子放在同一批即可解决问题。",
            ),
            Source("002", "1.3(2)3)"),
        ),
        Claim(
            "fixed",
            Text(
                en="BatchNorm does not suit sequences because it needs batches of a fixed length.",
                zh="批归一化依赖固定长度的批次，因此不适合序列模型。",
            ),
            Source("000", "12"),
            note=Text(
                en="In a decoder there is a better objection: while training it lets the future leak.",
                zh="在解码器中有更充分的理由：训练时它会泄漏未来信息。",
            ),
        ),
    )
    prediction = Text(
        en="Masked BatchNorm does not notice padding and classifies within 5 points of LayerNorm. Only statistics for "
        "each place have one sentence at the late places; they do worse, and buckets do not help them, since a "
        "bucket leaves other places empty.",
        zh="带掩码的批归一化不受填充影响，分类正确率与层归一化相差不到 5 个百分点。只有按位置统计时，靠后的位置才只有"
        "一个句子；它表现较差，分桶也帮不上，因为一个桶里别的位置是空的。",
    )
    criterion = Text(
        en="impossible: refuted if other amounts of padding change masked BatchNorm's results by at most 1e-6, in "
        "training and evaluation, and in random batches it is surely not 5 points behind LayerNorm in either task "
        "(topics, reversing); supported if surely so in both. late: depends if the told places have 1 sample with "
        "statistics for each place and pooled ones have 65; supported if both have 1. buckets: of the BatchNorms "
        "that surely trail LayerNorm in random batches of a task, those within 1 point of LayerNorm in buckets "
        "(equivalence) are cured; all cured: supported, none and all surely still behind: refuted, some: depends, "
        "none trailing or undecided: inconclusive. fixed: as 'impossible', with a sentence alone giving what it "
        "gives in a batch, within 1e-6, in evaluation.",
        zh="不可用：填充量改变时，带掩码的批归一化在训练和评估时结果变化都不超过 1e-6，且随机组批时在两个任务（主题分"
        "类、倒序）上都确定没有落后层归一化 5 个百分点，则不成立；两个任务都确定落后则成立。靠后位置：按位置统计时这"
        "些位置只有 1 个样本，而合并统计有 65 个，则视情况而定；都只有 1 个则成立。分桶：随机组批时确定落后于层归一化"
        "的各种批归一化中，分桶后与层归一化相差 1 个百分点以内（等价检验）者算治好；全部治好则成立，全部仍确定落后则"
        "不成立，部分治好则视情况而定，没有落后者或无法判断则尚无定论。固定长度：同“不可用”，并要求评估时句子单独输入"
        "与在批中的结果相差不超过 1e-6。",
    )
    parts = ("clearhead.model.norm.batchnorm:BatchNorm", "clearhead.model.norm.batchnorm:PositionalBatchNorm")
    references = (
        "Shen et al., 2020, arXiv:2003.07845, sections 1 and 3",
        "Cooijmans et al., 2017, arXiv:1603.09025, section 3",
        "Yao et al., 2021, Leveraging batch normalization for vision transformers, ICCV workshops",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=3):
            yield {"part": "exact", "draws": scale.pick(quick=20, full=400), "seed": seed}
        for seed in scale.seeds(quick=1, full=10):
            for name, norms in TRIED.items():
                for norm in norms:
                    for batches in ("random", "buckets"):
                        updates = scale.pick(quick=2, full=UPDATES[name])
                        told = {"task": name, "batches": batches, "norm": norm, "updates": updates, "seed": seed}
                        yield {"part": "training", **told}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        if cell["part"] == "exact":
            return [
                {"norm": norm, **_example(norm, int(cell["draws"] or 0), seed), **_padding(norm, seed)}
                for norm in NORMS_ON_TRIAL
            ]
        text, head = _task(str(cell["task"]))
        model = _model(text, head, str(cell["norm"]), seed)
        _train(model, text, int(cell["updates"] or 0), seed, sort=cell["batches"] == "buckets")
        return [{"accuracy": score(model, text, seed, 1024).accuracy}]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        exact = {norm: rows.where(part="exact", norm=norm) for norm in NORMS_ON_TRIAL}
        moved = max(max(exact["masked"].column(each)) for each in ("training", "evaluation"))
        alone, pads = max(exact["masked"].column("alone")), max(exact["pads in"].column("training"))
        lags = [_lag(rows, name, "masked", "random") for name in TRIED]
        near = all(each.low > -FAR for each in lags)
        usable = _usable(lags, near=near and moved <= SAME)
        one, pooled = exact["position"].mean("late"), exact["masked"].mean("late")
        late = Verdict.DEPENDS if one == 1 < pooled else Verdict.SUPPORTED if one == pooled == 1 else Verdict.REFUTED
        listed = [_listed(rows, names) for names in (EN, ZH)]
        return {
            "impossible": Judgement(
                usable,
                Text(
                    en=f"More padding changes masked BatchNorm by {moved:.1g} (with padding counted in: {pads:.2g}); "
                    f"accuracy against LayerNorm {100 * lags[0].mean:+.1f} points in topics, "
                    f"{100 * lags[1].mean:+.1f} in reversing.",
                    zh=f"增加填充时，带掩码的批归一化变化 {moved:.1g}（把填充计入则为 {pads:.2g}）；与层归一化相比，正"
                    f"确率在主题分类上 {100 * lags[0].mean:+.1f} 个百分点，在倒序任务上 {100 * lags[1].mean:+.1f} 个"
                    f"百分点。",
                ),
            ),
            "late": Judgement(
                late,
                Text(
                    en=f"A late place has {one:.0f} sample with statistics for each place and {pooled:.0f} with "
                    f"pooled ones.",
                    zh=f"靠后的位置，按位置统计有 {one:.0f} 个样本，合并统计有 {pooled:.0f} 个。",
                ),
            ),
            "buckets": Judgement(
                _cured(rows),
                Text(
                    en=f"Points of accuracy of BatchNorm against LayerNorm, random batches / buckets: {listed[0]}.",
                    zh=f"批归一化与层归一化的正确率之差（百分点，随机组批/分桶）：{listed[1]}。",
                ),
            ),
            "fixed": Judgement(
                _usable(lags, near=near and max(moved, alone) <= SAME),
                Text(
                    en=f"In evaluation a sentence alone differs by {alone:.1g} from the same one in a batch.",
                    zh=f"评估时，句子单独输入与在批中的结果相差 {alone:.1g}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        judged = self.judge(rows)
        error = {norm: rows.mean("error", part="exact", norm=norm) for norm in NORMS_ON_TRIAL if norm != "layernorm"}
        late = rows.mean("late_error", part="exact", norm="position")
        seeds = len(rows.where(part="training").distinct("seed"))
        possible = judged["impossible"].verdict is Verdict.REFUTED
        return Answer(
            short=Text(
                en=("Length is not the obstacle. " if possible else "BatchNorm can be told what padding is. ")
                + f"{judged['impossible'].evidence.en} {judged['late'].evidence.en} {judged['buckets'].evidence.en}",
                zh=("长度不是障碍。" if possible else "可以告诉批归一化哪些是填充。")
                + f"{judged['impossible'].evidence.zh}{judged['late'].evidence.zh}{judged['buckets'].evidence.zh}",
            ),
            imprecise=Text(
                en=f"Most of what is said concerns statistics for each place or padding that is counted, not "
                f"BatchNorm as such. In the example of the nine short texts and the long one the mean is off by {error['masked']:.2f} standard "
                f"deviations when 65 words are pooled, by {error['pads in']:.2f} when the padding is counted, and by "
                f"{late:.2f} at the late places when each place is by itself.",
                zh=f"多数说法针对的是按位置统计或把填充计入的做法，而不是批归一化本身。在九短一长的例子里，合并 65 个词时均"
                f"值误差为 {error['masked']:.2f} 个标准差，计入填充时为 {error['pads in']:.2f}，按位置统计时靠后位置"
                f"为 {late:.2f}。",
            ),
            limits=Text(
                en=f"Encoders of 2 layers and width 32 that find the topic of synthetic sentences of 2 to 24 words, "
                f"or reverse texts of 2 to 8 symbols, {seeds} seed(s). In a decoder BatchNorm has another flaw, "
                f"which layernorm-axis measures: in training it leaks the future.",
                zh=f"2 层、宽 32 的编码器，为 2 至 24 词的合成句子判断主题，或把 2 至 8 个符号倒序，{seeds} 个种子。批"
                f"归一化在解码器中另有缺陷（见 layernorm-axis）：训练时会泄漏未来信息。",
            ),
            caption=Text(
                en="Left: error of the mean in the example of nine short texts and a long one. Right: accuracy with random and with bucketed "
                "batches.",
                zh="左：九短一长的例子中均值的误差。右：随机组批与分桶时的正确率。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (error, accuracy) = panels(2, width=5.6, height=3.6)
        exact = rows.where(part="exact")
        columns = [
            ("pooled,\nmasked", "masked", "error"),
            ("pooled,\npads in", "pads in", "error"),
            ("per position,\nplaces 1-5", "position", "error"),
            ("per position,\nplaces 6-20", "position", "late_error"),
        ]
        bars(error, [name for name, *_ in columns], [exact.mean(column, norm=norm) for _, norm, column in columns])
        series = {
            name: [
                interval(rows.column("accuracy", part="training", task=task, norm=norm, batches=batches))
                for task, norm in BARS
            ]
            for batches, name in {"random": "random batches", "buckets": "buckets"}.items()
        }
        grouped(accuracy, [f"{NORMS_ON_TRIAL[norm]}\n({EN[task]})" for task, norm in BARS], series)
        accuracy.set_ylim(0.0, 1.0)
        for axes, size in ((error, 8), (accuracy, 6)):
            axes.tick_params(axis="x", labelsize=size)
        label(error, x="statistics, nine texts of 5 and one of 20 words", y="error of the mean (standard deviations)")
        label(accuracy, x="norm and task", y="accuracy on fresh sentences")
        return figure


BARS = tuple((name, norm) for name, norms in TRIED.items() for norm in norms)
PAIRS = tuple((name, norm) for name, norms in TRIED.items() for norm in norms if norm != "layernorm")
EN = {
    "and": "; ",
    "topics": "topics",
    "reverse": "reversing",
    "masked": "masked",
    "pads in": "pads in",
    "position": "per position",
}
ZH = {"and": "；", "topics": "主题", "reverse": "倒序", "masked": "带掩码", "pads in": "计入填充", "position": "按位置"}


def _example(norm: str, draws: int, seed: int) -> Row:
    """The told example, words of mean 1: samples at a late place, errors of the mean at early and late places."""
    valid = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]  # (sentences, length)
    generator, part = torch.Generator().manual_seed(seed), MAKERS[norm](FEATURES)
    if not isinstance(part, BatchNorm):
        return {"late": None, "error": None, "late_error": None}
    part.momentum, places = 1.0, 5
    early, late = [], []
    for _ in range(draws):
        words = (1 + torch.randn(*valid.shape, FEATURES, generator=generator)) * valid[..., None]
        part(words, valid)
        early.append(part.mean[: places if part.rows > 1 else 1] - 1)
        late.append(part.mean[places : max(LENGTHS)] - 1 if part.rows > 1 else part.mean - 1)
    count = (
        int(valid[:, places:].sum(dim=0)[0])
        if part.rows > 1
        else valid.numel()
        if norm == "pads in"
        else int(valid.sum())
    )
    errors = [float(torch.cat(each).square().mean().sqrt()) for each in (early, late)]
    return {"late": count, "error": errors[0], "late_error": errors[1]}


def _padding(norm: str, seed: int) -> Row:
    """How far results move with more padding, in both modes, and for a sentence alone; float64."""
    generator = torch.Generator().manual_seed(seed)
    valid = torch.arange(8) < torch.tensor([3, 8, 5])[:, None]
    words = torch.randn(3, 8, FEATURES, generator=generator, dtype=torch.float64) * valid[..., None]
    longer = torch.nn.functional.pad(words, (0, 0, 0, PADDING))
    more = torch.nn.functional.pad(valid, (0, PADDING))
    part = MAKERS[norm](FEATURES).double()
    training = part(longer, more)[:, :8][valid] - part(words, valid)[valid]
    part.eval()
    whole = part(words, valid)
    evaluation, alone = (
        part(longer, more)[:, :8][valid] - whole[valid],
        part(words[:1, :3], valid[:1, :3]) - whole[:1, :3],
    )
    return {
        name: each.abs().max().detach()
        for name, each in (("training", training), ("evaluation", evaluation), ("alone", alone))
    }


def _task(name: str) -> tuple[Task, dict[str, Any]]:
    """A task with the head of its model."""
    if name == "topics":
        return task("topics", TEXT), {"kind": "classify", "labels": TEXT["classes"], "pooling": "mean", "dense": "none"}
    return WholeSource(task("reverse", ORDER)), {"kind": "lm"}


def _model(text: Task, head: dict[str, Any], norm: str, seed: int) -> Transformer:
    model = build(encoder(text.vocab, {"head": head}), seed)
    return replace_parts(model, LayerNorm, lambda part: MAKERS[norm](len(part.weight)))


def _train(model: Transformer, text: Task, updates: int, seed: int, *, sort: bool) -> None:
    """Both kinds of batches are cut from the same sentences; buckets sort a pool of them by length first."""
    waiting: list[Samples] = []

    def loss(generator: torch.Generator) -> Tensor:
        if not waiting:
            waiting.extend(_batches(text.draw(POOL * BATCH, generator), generator, sort=sort))
        samples = waiting.pop()
        return loss_of(logits(model, samples), samples.labels)

    for _ in fit(model, loss, Plan(updates=updates), seed):
        pass


def _batches(pool: Samples, generator: torch.Generator, *, sort: bool) -> list[Samples]:
    assert pool.valid is not None
    lengths = pool.valid.sum(dim=1)
    order = lengths.argsort() if sort else torch.arange(len(pool))
    found = []
    for picked in torch.split(order, BATCH):
        longest = int(lengths[picked].max())
        cut = replace(
            pool,
            tokens=pool.tokens[picked, :longest],
            labels=pool.labels[picked, :longest] if pool.labels.dim() > 1 else pool.labels[picked],
            valid=pool.valid[picked, :longest],
        )
        found.append(cut)
    return [found[each] for each in torch.randperm(len(found), generator=generator)]


def _lag(rows: Rows, name: str, norm: str, batches: str) -> Interval:
    """Accuracy minus LayerNorm's in the same task and batches, paired by seed."""
    own = rows.where(part="training", task=name, batches=batches)
    return interval(own.paired("accuracy", {"norm": norm}, {"norm": "layernorm"}))


def _usable(lags: list[Interval], *, near: bool) -> Verdict:
    if near:
        return Verdict.REFUTED
    return Verdict.SUPPORTED if all(each.high < -FAR for each in lags) else Verdict.INCONCLUSIVE


def _cured(rows: Rows) -> Verdict:
    """What buckets do for the kinds that surely trail without them."""
    trailing = [each for each in PAIRS if _lag(rows, *each, "random").below]
    cured = [equivalent(_bucketed(rows, *each), CLOSE) for each in trailing]
    behind = [interval(_bucketed(rows, *each)).below and not well for each, well in zip(trailing, cured, strict=True)]
    if trailing and all(cured):
        return Verdict.SUPPORTED
    if trailing and all(behind):
        return Verdict.REFUTED
    return Verdict.DEPENDS if any(cured) else Verdict.INCONCLUSIVE


def _bucketed(rows: Rows, name: str, norm: str) -> list[float]:
    own = rows.where(part="training", task=name, batches="buckets")
    return own.paired("accuracy", {"norm": norm}, {"norm": "layernorm"})


def _listed(rows: Rows, names: Mapping[str, str]) -> str:
    """Points against LayerNorm in random batches and in buckets."""
    lags = {each: [100 * _lag(rows, *each, batches).mean for batches in ("random", "buckets")] for each in PAIRS}
    return names["and"].join(
        f"{names[task]} {names[norm]} {lag[0]:+.1f} / {lag[1]:+.1f}" for (task, norm), lag in lags.items()
    )
