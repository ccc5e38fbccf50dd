"""What does batch normalisation average over, and what are its merits and costs?"""

import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from clearhead.lab.parts.batch_norm_lstm import PlainLSTM, StepwiseBatchNormLSTM
from clearhead.lab.parts.digits import CLASSES, Pictures, pictures
from clearhead.lab.pictures import grouped, label, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval
from clearhead.lab.training import Plan, Step, examples, fit, loss_of, task
from clearhead.model.norm import BatchNorm

EXACT = 1e-12  # largest difference to torch, float64
FITTED = 0.1  # training loss, nats: generalisation is compared where it is first reached
TARGET = 0.95  # accuracy on the pictures for choosing
BATCH = 64
NETWORKS = ("perceptron", "convolution")
SLOWER = 1.1  # times: less is within the noise of timing
NEAR = 0.02  # of the plain network's loss


@QUESTIONS.register("batchnorm-mechanics")
class BatchnormMechanics(Question):
    """Equality with torch, digits with and without, time to a target, and a recurrent network."""

    topic = "norm-residual"
    timed = ("digits",)
    title = Text(
        en="What does BatchNorm average over in training and in evaluation, and what does it bring and cost?",
        zh="批归一化在训练和评估时各自对哪些维度求统计量？它的收益与代价是什么？",
    )
    sources = (Source("000", "13"), Source("002", "1.3(2)"), Source("003", "I.13"), Source("004", "3"))
    claims = (
        Claim(
            "axis",
            Text(
                en="BatchNorm standardises one feature across the samples of a batch.",
                zh="批归一化沿一批样本对同一特征维度做标准化。",
            ),
            Source("002", "1.3(2)"),
            note=Text(
                en="With a length it pools that too, unless it is built to keep places apart.",
                zh="输入带长度维时，长度也一并统计，除非特意按位置分开。",
            ),
        ),
        Claim(
            "better",
            Text(
                en="BatchNorm speeds up convergence and improves generalisation.", zh="批归一化加快收敛并提升泛化能力。"
            ),
            Source("000", "13"),
        ),
        Claim(
            "slower",
            Text(en="BatchNorm makes training take longer.", zh="批归一化会增加训练时间。"),
            Source("000", "13"),
            note=Text(
                en="It stands beside the claim of faster convergence; steps and seconds must be told apart.",
                zh="同一条目又说它加快收敛；需要区分步数与秒数。",
            ),
        ),
        Claim(
            "recurrent",
            Text(
                en="BatchNorm cannot be used for recurrent networks and other models of sequences.",
                zh="批归一化不适用于循环网络等序列模型。",
            ),
            Source("000", "13"),
            note=Text(en="Cooijmans et al. did so in 2017.", zh="Cooijmans 等人 2017 年就这样做过。"),
        ),
    )
    prediction = Text(
        en="Ours equals torch's in all modes. Networks reach 95 % in fewer steps; a step takes longer, so the seconds "
        "to the target may go either way. Accuracy hardly changes. An LSTM with statistics for each step trains as "
        "well as a plain one.",
        zh="我们的实现在各模式下与 torch 相等。达到 95% 所需步数更少，但每步更慢，因此总秒数可增可减。正确率变化很小。"
        "逐步统计的批归一化 LSTM 与普通 LSTM 训练得一样好。",
    )
    criterion = Text(
        en="axis: supported if ours equals torch's BatchNorm1d within 1e-12 on (batch, features) and (batch, "
        "features, length), in training, evaluation and running averages. better: steps to 95 % fall and test "
        "accuracy at the same fit (training loss first below 0.1) rises (intervals of paired differences); both in "
        "both networks: supported; none anywhere: refuted; else depends. slower, with torch's fused BatchNorm: a "
        "step takes over 1.1 times as long (lower end of the interval of log ratios); if so, depends if seconds to "
        "the target fall in a network (interval), or only one network is slower, else supported; refuted if surely "
        "below 1.1 in both; else inconclusive. recurrent: refuted if the LSTM's loss with BatchNorm is surely less "
        "than 2 % above the plain one's; supported if surely more; else inconclusive.",
        zh="轴：在（批，特征）与（批，特征，长度）两种输入上，训练、评估和滑动平均都与 torch 的 BatchNorm1d 相差不超过"
        " 1e-12，则成立。收益：达到 95% 的步数减少、同等拟合程度下（训练损失首次低于 0.1）的测试正确率上升（配对差的"
        "区间），两种网络上两项都满足则成立，全不满足则不成立，其余视情况而定。更慢（用 torch 的融合实现）：每步耗时"
        "超过 1.1 倍（对数比区间的下端）；若如此，有网络的达标秒数减少（区间）或只有一个网络更慢，则视情况而定，否则"
        "成立；两者都确定低于 1.1 倍则不成立；其余尚无定论。循环网络：批归一化 LSTM 的损失确定不超过普通 LSTM 的 "
        "1.02 倍则不成立，确定超过则成立，其余尚无定论。",
    )
    parts = ("clearhead.model.norm.batchnorm:BatchNorm",)
    references = (
        "Ioffe and Szegedy, 2015, arXiv:1502.03167, section 3",
        "Cooijmans et al., 2017, arXiv:1603.09025, section 3",
        "Laurent et al., 2016, arXiv:1510.01378",
        "Shen et al., 2020, arXiv:2003.07845",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        yield {"part": "exact"}
        for seed in scale.seeds(quick=1, full=10):
            for network in scale.pick(quick=NETWORKS[:1], full=NETWORKS):
                yield {"part": "digits", "network": network, "updates": scale.pick(quick=20, full=300), "seed": seed}
        for seed in scale.seeds(quick=1, full=5):
            yield {"part": "recurrent", "updates": scale.pick(quick=4, full=200), "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        if cell["part"] == "exact":
            return [{"shape": str(shape), **_against_torch(shape)} for shape in ((9, 5), (9, 5, 7))]
        updates, seed = int(cell["updates"] or 0), int(cell["seed"] or 0)
        if cell["part"] == "digits":
            kind = str(cell["network"])
            times = _step_times(kind, min(updates, 60), seed)
            return [{"norm": norm, **_digits(kind, norm, updates, times[norm], seed)} for norm in ("none", "batchnorm")]
        return [{"norm": norm, "loss": _recurrent(norm, updates, seed)} for norm in ("none", "batchnorm")]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        worst = max(max(rows.column(each, part="exact")) for each in ("training", "evaluation", "running"))
        names = rows.where(part="digits").distinct("network")
        fewer = {each: _difference(rows, each, "steps") for each in names}
        gain = {each: _difference(rows, each, "accuracy") for each in names}
        steps = {each: _log_ratio(rows, each, "milliseconds") for each in names}
        seconds = {each: _log_ratio(rows, each, "seconds") for each in names}
        merits = [each.below for each in fewer.values()] + [each.above for each in gain.values()]
        known = all(each.count > 1 for each in fewer.values())
        better = Verdict.SUPPORTED if all(merits) else Verdict.DEPENDS if any(merits) else Verdict.REFUTED
        longer = [each.low > np.log(SLOWER) for each in steps.values()]
        cheaper = any(each.below for each in seconds.values())
        slower = Verdict.REFUTED if all(each.high < np.log(SLOWER) for each in steps.values()) else Verdict.INCONCLUSIVE
        if any(longer):
            slower = Verdict.DEPENDS if cheaper or not all(longer) else Verdict.SUPPORTED
        worse = _recurrent_ratio(rows)
        recurrent = (
            Verdict.REFUTED if worse.high < NEAR else Verdict.SUPPORTED if worse.low > NEAR else Verdict.INCONCLUSIVE
        )
        listed_en = "; ".join(
            f"{each}: {fewer[each].mean:+.0f} steps to 95 %, accuracy at the same fit {100 * gain[each].mean:+.1f} points"
            for each in names
        )
        listed_zh = "；".join(
            f"{ZH[each]}：达到 95% 的步数 {fewer[each].mean:+.0f}，同等拟合时正确率 {100 * gain[each].mean:+.1f} 个百分点"
            for each in names
        )
        times_en = "; ".join(
            f"{each}: {np.exp(steps[each].mean):.2f} times a step, {np.exp(seconds[each].mean):.2f} times to the target"
            for each in names
        )
        times_zh = "；".join(
            f"{ZH[each]}：每步 {np.exp(steps[each].mean):.2f} 倍，达标 {np.exp(seconds[each].mean):.2f} 倍"
            for each in names
        )
        return {
            "axis": Judgement(
                Verdict.SUPPORTED if worst <= EXACT else Verdict.REFUTED,
                Text(
                    en=f"Largest difference to torch's BatchNorm1d: {worst:.1g}, statistics over batch and length.",
                    zh=f"与 torch 的 BatchNorm1d 最大相差 {worst:.1g}，统计范围为批和长度。",
                ),
            ),
            "better": Judgement(
                better if known else Verdict.INCONCLUSIVE,
                Text(en=f"With BatchNorm, {listed_en}.", zh=f"使用批归一化后，{listed_zh}。"),
            ),
            "slower": Judgement(
                slower if known else Verdict.INCONCLUSIVE,
                Text(en=f"Time with over time without, {times_en}.", zh=f"有与无的时间之比，{times_zh}。"),
            ),
            "recurrent": Judgement(
                recurrent,
                Text(
                    en=f"BatchNorm at each step changes the LSTM's loss by {worse.mean:+.1%} [{worse.low:+.1%}, {worse.high:+.1%}].",
                    zh=f"逐步批归一化使 LSTM 的损失变化 {worse.mean:+.1%} [{worse.low:+.1%}, {worse.high:+.1%}]。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        judged = self.judge(rows)
        unbiased = rows.mean("if_biased", part="exact")
        seeds = len(rows.where(part="digits").distinct("seed"))
        return Answer(
            short=Text(
                en=f"In training each feature is standardised over all samples, and over all places too where there "
                f"is a length; in evaluation by running averages. {judged['better'].evidence.en} "
                f"{judged['slower'].evidence.en} {judged['recurrent'].evidence.en}",
                zh=f"训练时，每个特征在所有样本上标准化；若有长度维，则连同所有位置一起统计；评估时使用滑动平均。"
                f"{judged['better'].evidence.zh}{judged['slower'].evidence.zh}{judged['recurrent'].evidence.zh}",
            ),
            imprecise=Text(
                en=f"'Faster' and 'slower' are both said of it: fewer steps and longer steps are two different "
                f"things. A detail: the running variance is the unbiased one, while the batch itself is divided by the "
                f"root of the biased one (mixing them up would change the running variance by {unbiased:.1%} here).",
                zh=f"既有人说它更快，也有人说它更慢：步数更少与每步更久是两回事。一个细节：滑动平均里记的是无偏方差，而当批"
                f"的标准化用的是有偏方差（此处若混用，滑动方差会差 {unbiased:.1%}）。",
            ),
            limits=Text(
                en=f"Small networks on digits of 8 x 8 pixels with batches of {BATCH}, {seeds} seed(s), one learning "
                f"rate, torch's fused BatchNorm for the timing; an LSTM of width 24 on a Markov chain.",
                zh=f"8×8 数字上的小网络，批量 {BATCH}，{seeds} 个种子，一个学习率，计时用 torch 的融合实现；LSTM 宽 "
                f"24，数据为马尔可夫链。",
            ),
            caption=Text(
                en="Left: with BatchNorm over without, in steps to 95 %, time of a step, seconds to 95 %; below 1 is "
                "less. Right: test accuracy where the training loss is first below 0.1; the axis does not begin at 0.",
                zh="左：有批归一化与无批归一化之比（达到 95% 的步数、每步时间、达到 95% 的秒数），低于 1 表示更少。右：训练损失首次低于 0.1 时的测试正确率，纵轴不从 0 开始。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (quotients, accuracy) = panels(2, width=4.8)
        names = rows.where(part="digits").distinct("network")
        columns = {"steps": "steps\nto 95 %", "milliseconds": "time\nof a step", "seconds": "seconds\nto 95 %"}
        found = {each: [_exp(_log_ratio(rows, each, column)) for column in columns] for each in names}
        grouped(quotients, list(columns.values()), found)
        threshold(quotients, 1.0, "no difference")
        quotients.legend(fontsize=8)
        series = {
            shown: [interval(rows.column("accuracy", network=each, norm=norm)) for each in names]
            for norm, shown in {"none": "without", "batchnorm": "with BatchNorm"}.items()
        }
        grouped(accuracy, names, series)
        accuracy.set_ylim(0.8 * min(rows.column("accuracy", part="digits")), 1.1)
        accuracy.legend(fontsize=8)
        label(quotients, x="measure", y="with BatchNorm / without")
        label(accuracy, x="network", y="test accuracy at the same training loss")
        return figure


ZH = {"perceptron": "感知机", "convolution": "卷积网络"}


def _against_torch(shape: tuple[int, ...]) -> Row:
    """Largest differences to torch in training, in evaluation and in the running averages, after three batches."""
    torch.manual_seed(0)
    ours, theirs = BatchNorm(shape[1]).double(), nn.BatchNorm1d(shape[1]).double()
    found = {"training": 0.0, "evaluation": 0.0, "running": 0.0}
    for _ in range(3):
        batch = 3 * torch.randn(shape, dtype=torch.float64) + 2
        found["training"] = max(found["training"], _apart(_ours(ours, batch), theirs(batch)))
    biased = 1 - 1 / (batch.numel() / shape[1])
    found["running"] = max(_apart(ours.mean[0], theirs.running_mean), _apart(ours.variance[0], theirs.running_var))  # type: ignore[arg-type]
    ours.eval(), theirs.eval()
    found["evaluation"] = _apart(_ours(ours, batch), theirs(batch))
    return {**found, "if_biased": 1 - biased}


def _ours(norm: BatchNorm, batch: Tensor) -> Tensor:
    """Our norm reads features last, torch's reads them second."""
    last = batch.movedim(1, -1)
    result: Tensor = norm(last)
    return result.movedim(-1, 1)


def _apart(left: Tensor, right: Tensor) -> float:
    return float((left - right).abs().max().detach())


def _network(kind: str, norm: str) -> nn.Sequential:
    """With torch's fused BatchNorm, so that what is timed is no detail of ours."""

    def after(features: int, *, flat: bool) -> nn.Module:
        if norm == "none":
            return nn.Identity()
        return nn.BatchNorm1d(features) if flat else nn.BatchNorm2d(features)

    if kind == "perceptron":
        hidden = [nn.Sequential(nn.Linear(64, 64), after(64, flat=True), nn.ReLU()) for _ in range(3)]
        return nn.Sequential(*hidden, nn.Linear(64, CLASSES))
    convolutions = [
        nn.Sequential(nn.Conv2d(a, b, 3, padding=1), after(b, flat=False), nn.ReLU(), nn.MaxPool2d(2))
        for a, b in ((1, 8), (8, 16))
    ]
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *convolutions, nn.Flatten(), nn.Linear(64, CLASSES))


def _digits(kind: str, norm: str, updates: int, milliseconds: float, seed: int) -> Row:
    """Steps and seconds to the target, test accuracy where the training loss is first low."""
    learning, choosing, test = pictures(seed)
    torch.manual_seed(seed)
    network = _network(kind, norm)
    reached = fitted = None
    losses: list[float] = []
    for step in _steps(network, learning, updates, seed):
        losses.append(step.loss)
        if step.number % 5 == 0:
            network.eval()
            if reached is None and choosing.accuracy(network) >= TARGET:
                reached = step.number
            if fitted is None and float(np.mean(losses[-5:])) < FITTED:
                fitted = test.accuracy(network)
            network.train()
    needed = reached or updates  # a run that never gets there counts with all its steps
    accuracy = test.accuracy(network.eval()) if fitted is None else fitted
    return {
        "steps": needed,
        "milliseconds": milliseconds,
        "seconds": needed * milliseconds / 1000,
        "accuracy": accuracy,
    }


def _plan(updates: int) -> Plan:
    return Plan(updates=updates, warmup=0, schedule="constant", rate=3e-3)


def _step_times(kind: str, steps: int, seed: int) -> dict[str, float]:
    """Median milliseconds of a training step with and without, in turns, so that a busy machine slows both."""
    learning = pictures(seed)[0]
    networks = {norm: _network(kind, norm) for norm in ("none", "batchnorm")}
    runs = {norm: _steps(network, learning, steps + 2, seed) for norm, network in networks.items()}
    times: dict[str, list[float]] = {norm: [] for norm in runs}
    for _ in range(steps + 2):
        for norm, run in runs.items():
            start = time.perf_counter()
            next(run)
            times[norm].append(1000 * (time.perf_counter() - start))
    return {norm: float(np.median(found[2:])) for norm, found in times.items()}


def _steps(network: nn.Module, learning: Pictures, updates: int, seed: int) -> Iterator[Step]:
    return fit(network, lambda generator: learning.batch(BATCH, generator).loss(network), _plan(updates), seed)


def _recurrent(norm: str, updates: int, seed: int) -> float:
    """Loss above 0 on fresh text, in evaluation mode, nats."""
    text = task("markov", {"length": 16})
    torch.manual_seed(seed)
    network = (StepwiseBatchNormLSTM if norm == "batchnorm" else PlainLSTM)(text.vocab, 24, 16)

    def loss(generator: torch.Generator) -> Tensor:
        samples = text.draw(32, generator)
        return loss_of(network(samples.tokens), samples.labels)

    for _ in fit(network, loss, Plan(updates=updates, rate=1e-2, warmup=updates // 10), seed):
        pass
    samples = examples(text, 512, seed, "score")
    with torch.no_grad():
        return float(F.cross_entropy(network.eval()(samples.tokens).flatten(0, 1), samples.labels.flatten()))


def _difference(rows: Rows, network: str, column: str) -> Interval:
    own = rows.where(part="digits", network=network)
    return interval(own.paired(column, {"norm": "batchnorm"}, {"norm": "none"}))


def _log_ratio(rows: Rows, network: str, column: str) -> Interval:
    """Of the logarithm of with over without, paired by seed."""
    own = rows.where(part="digits", network=network)
    logs = (np.log(np.array(own.column(column, norm=norm))) for norm in ("batchnorm", "none"))
    return interval(list(next(logs) - next(logs)))


def _exp(found: Interval) -> Interval:
    return Interval(float(np.exp(found.mean)), float(np.exp(found.low)), float(np.exp(found.high)), found.count)


def _recurrent_ratio(rows: Rows) -> Interval:
    """How much larger the loss is with BatchNorm, as a share, by seed."""
    own = rows.where(part="recurrent")
    with_, without = (own.column("loss", norm=norm) for norm in ("batchnorm", "none"))
    return interval([left / right - 1 for left, right in zip(with_, without, strict=True)])
