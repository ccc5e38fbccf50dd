"""How fast do batch statistics get worse as the batch shrinks, and what does that cost?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import nn

from clearhead.core.registry import Choice
from clearhead.lab.parts.digits import perceptron, pictures
from clearhead.lab.pictures import label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, exponent, interval
from clearhead.lab.training import Plan, fit
from clearhead.model.norm import BatchNorm

WIDTHS = (64, 64)
SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512)  # of batches whose statistics are measured
BATCHES = (2, 8, 64)  # of training
RATES = (1e-3, 4e-3)
NEAR = 0.05  # of the exponent to -1/2
NORMS_ON_TRIAL = {"batchnorm": "BatchNorm", "layernorm": "LayerNorm", "groupnorm": "GroupNorm"}


@QUESTIONS.register("batchnorm-small-batch")
class BatchnormSmallBatch(Question):
    """Errors of batch statistics by batch size, and digits learned with batches of 2 to 64."""

    topic = "norm-residual"
    title = Text(
        en="How fast do batch statistics degrade when the batch becomes small, and what does it cost in accuracy?",
        zh="批量变小时，批统计量的误差如何增长？对精度影响多大？",
    )
    sources = (Source("002", "1.3(2)2)"), Source("002", "1.3(2)2)①"), Source("000", "13"), Source("004", "3"))
    claims = (
        Claim(
            "small",
            Text(
                en="BatchNorm takes a batch for the population, so small batches give poor results.",
                zh="批归一化用一批样本代表总体，因此批量小时效果差。",
            ),
            Source("002", "1.3(2)2)①"),
            note=Text(
                en="Two things come together: noise while training, and other statistics in evaluation.",
                zh="这里有两个因素：训练时统计量的噪声，以及评估时换用另一套统计量。",
            ),
        ),
    )
    prediction = Text(
        en="The error of a batch mean falls like B^-0.5. BatchNorm loses over 10 points of accuracy from B = 64 to B "
        "= 2 on digits, LayerNorm and GroupNorm none.",
        zh="批均值的误差按 B 的 -0.5 次方下降。在手写数字上，从 B = 64 减到 B = 2，批归一化的正确率下降 10 个百分点以"
        "上，层归一化和组归一化不下降。",
    )
    criterion = Text(
        en="Supported if the exponent of the error of the mean lies within 0.05 of -0.5 (interval) and the accuracy "
        "of BatchNorm falls more from B = 64 to B = 2 than that of LayerNorm, paired interval above 0; each norm at "
        "each B with the better of two rates, chosen on other pictures than the test. Refuted if the difference of "
        "the falls is surely not above 0 or the exponent surely farther away. Else inconclusive.",
        zh="均值误差的指数与 -0.5 相差不超过 0.05（置信区间），且从 B = 64 到 B = 2，批归一化正确率的降幅大于层归一化"
        "（配对区间在 0 以上），则成立；每种归一化在每个 B 下取两个学习率中较好者，用测试集以外的图片选择。若降幅之差"
        "确定不大于 0，或指数确定偏离更多，则不成立。其余尚无定论。",
    )
    parts = ("clearhead.model.norm.batchnorm:BatchNorm", "clearhead.model.norm.layernorm:GroupNorm")
    references = (
        "Wu and He, 2018, arXiv:1803.08494, figure 1",
        "Ioffe, 2017, arXiv:1702.03275 (batch renormalisation)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=5):
            yield {"part": "statistics", "draws": scale.pick(quick=50, full=200), "seed": seed}
            for norm in NORMS_ON_TRIAL:
                for batch in scale.pick(quick=(2, 64), full=BATCHES):
                    for rate in scale.pick(quick=RATES[:1], full=RATES):
                        yield {
                            "part": "training",
                            "norm": norm,
                            "batch": batch,
                            "rate": rate,
                            "samples": scale.pick(quick=128, full=1920),
                            "seed": seed,
                        }

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        if cell["part"] == "statistics":
            return _errors(int(cell["draws"] or 0), seed)
        batch = int(cell["batch"] or 0)
        return [_learned(str(cell["norm"]), batch, float(cell["rate"] or 0), int(cell["samples"] or 0) // batch, seed)]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        power, more = _exponent(rows, "mean"), _more(rows)
        half = power.low > -0.5 - NEAR and power.high < -0.5 + NEAR
        off = power.high < -0.5 - NEAR or power.low > -0.5 + NEAR
        supported, refuted = half and more.above, off or (more.count > 1 and more.high <= 0)
        falls = {norm: interval(_falls(rows, norm)).mean for norm in NORMS_ON_TRIAL}
        return {
            "small": Judgement(
                Verdict.SUPPORTED if supported else Verdict.REFUTED if refuted else Verdict.INCONCLUSIVE,
                Text(
                    en=f"Exponent of the error of the mean {power.mean:.3f}. From B = 64 to B = 2 accuracy changes by "
                    f"{-100 * falls['batchnorm']:+.1f} points with BatchNorm, {-100 * falls['layernorm']:+.1f} with "
                    f"LayerNorm, {-100 * falls['groupnorm']:+.1f} with GroupNorm.",
                    zh=f"均值误差的指数为 {power.mean:.3f}。从 B = 64 到 B = 2，正确率的变化：批归一化 "
                    f"{-100 * falls['batchnorm']:+.1f} 个百分点，层归一化 {-100 * falls['layernorm']:+.1f}，组归一化 "
                    f"{-100 * falls['groupnorm']:+.1f}。",
                ),
            )
        }

    def answer(self, rows: Rows) -> Answer:
        power, variance = _exponent(rows, "mean"), _exponent(rows, "variance")
        small = {
            norm: interval([_best(rows, norm, 2, seed, "accuracy") for seed in _seeds(rows)]).mean
            for norm in NORMS_ON_TRIAL
        }
        own = interval([_best(rows, "batchnorm", 2, seed, "batch_accuracy") for seed in _seeds(rows)]).mean
        return Answer(
            short=Text(
                en=f"The error of a batch mean goes like B^{power.mean:.2f}, that of a variance like "
                f"B^{variance.mean:.2f}. With batches of 2 BatchNorm reaches {small['batchnorm']:.0%} on digits, "
                f"LayerNorm {small['layernorm']:.0%} and GroupNorm {small['groupnorm']:.0%}, all with the same "
                f"number of pictures seen.",
                zh=f"批均值的误差随 B 的 {power.mean:.2f} 次方变化，方差的误差随 B 的 {variance.mean:.2f} 次方变化。批"
                f"量为 2 时，批归一化在手写数字上的正确率为 {small['batchnorm']:.0%}，层归一化 "
                f"{small['layernorm']:.0%}，组归一化 {small['groupnorm']:.0%}，所见图片数相同。",
            ),
            imprecise=Text(
                en=f"{'The running averages used in evaluation do not explain it' if own < small['batchnorm'] else 'A part of it lies in the running averages used in evaluation'}: "
                f"with the statistics of its own test batches of 2 the same network gets {own:.0%} in place of {small['batchnorm']:.0%}. What a batch is counts too: in "
                f"text every token is one sample of it.",
                zh=f"{'原因不在评估时使用的滑动平均' if own < small['batchnorm'] else '评估时使用的滑动平均是一部分原因'}：若评估时也用每批 2 张的统计量，同一网络的正确率是 {own:.0%}，而"
                f"不是 {small['batchnorm']:.0%}。“批”指什么也有影响：在文本中，每个词都算批里的一个样本。",
            ),
            limits=Text(
                en=f"Two hidden layers of 64, digits of 8 x 8 pixels, "
                f"{rows.where(part='training').distinct('samples')[0]} pictures seen, {len(_seeds(rows))} seed(s), "
                f"{len(rows.where(part='training').distinct('rate'))} rate(s). Smaller batches make more updates of the same pictures, "
                f"so not all of a change is due to the statistics.",
                zh=f"两个宽 64 的隐层，8×8 像素的数字，共见 {rows.where(part='training').distinct('samples')[0]} 张图"
                f"，{len(_seeds(rows))} 个种子，{len(rows.where(part='training').distinct('rate'))} 个学习率。图片数相同时，批量越小更新次数越多，因此正确率的变化不全来自统计量。",
            ),
            caption=Text(
                en="Left: error of batch statistics by batch size. Right: accuracy by batch size; dashed: BatchNorm "
                "with the statistics of its test batches.",
                zh="左：批统计量的误差随批量的变化。右：正确率随批量的变化；虚线为批归一化在测试时使用该批的统计量。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (error, accuracy) = panels(2, height=3.8)
        statistics = rows.where(part="statistics")
        for place, name in enumerate(("mean", "variance")):
            line(error, SIZES, [interval(statistics.column(name, size=each)) for each in SIZES], f"batch {name}", place)
        error.plot(SIZES, [each**-0.5 for each in SIZES], color="#555555", linestyle="--", label="B^-0.5")
        batches = rows.where(part="training").distinct("batch")
        for place, (norm, name) in enumerate(NORMS_ON_TRIAL.items()):
            line(
                accuracy,
                batches,
                [interval([_best(rows, norm, each, seed, "accuracy") for seed in _seeds(rows)]) for each in batches],
                name,
                place,
            )
        own = [
            interval([_best(rows, "batchnorm", each, seed, "batch_accuracy") for seed in _seeds(rows)]).mean
            for each in batches
        ]
        accuracy.plot(batches, own, color="#0072B2", linestyle="--", label="BatchNorm, statistics of the test batch")
        threshold(accuracy, 0.1, "chance")
        error.set(xscale="log", yscale="log")
        accuracy.set_xscale("log", base=2)
        for axes in (error, accuracy):
            axes.legend(fontsize=7)
        label(error, x="batch size B (pictures)", y="error (standard deviations; share)")
        label(accuracy, x="batch size B (pictures)", y="accuracy on the test pictures")
        return figure


def _errors(draws: int, seed: int) -> list[Row]:
    """How far statistics of random batches are from those of all pictures: in standard deviations, and as a share."""
    everything = pictures(seed)[0]
    network = perceptron(Choice(kind="none"), nn.ReLU, WIDTHS, seed)
    generator, norm = torch.Generator().manual_seed(seed), BatchNorm(WIDTHS[0], momentum=1.0)
    activations = network[0](everything.pixels).detach()
    rows: list[Row] = []
    for size in SIZES:
        mean, variance = [], []
        for _ in range(draws):
            norm(activations[torch.randint(len(activations), (size,), generator=generator)])
            mean.append((norm.mean[0] - activations.mean(dim=0)) / activations.std(dim=0))
            variance.append(norm.variance[0] / activations.var(dim=0) - 1)
        errors = [float(torch.stack(each).square().mean().sqrt()) for each in (mean, variance)]
        rows.append({"size": size, "mean": errors[0], "variance": errors[1]})
    return rows


def _learned(norm: str, batch: int, rate: float, updates: int, seed: int) -> Row:
    learning, choosing, test = pictures(seed)
    network = perceptron(Choice(kind=norm), nn.ReLU, WIDTHS, seed)
    plan = Plan(updates=updates, rate=rate, warmup=min(40, updates // 10))
    for _ in fit(network, lambda generator: learning.batch(batch, generator).loss(network), plan, seed):
        pass
    network.eval()
    chosen, accuracy = choosing.accuracy(network), test.accuracy(network)
    network.train()
    return {"chosen_by": chosen, "accuracy": accuracy, "batch_accuracy": test.accuracy(network, batch)}


def _seeds(rows: Rows) -> list[int]:
    return rows.where(part="training").distinct("seed")


def _best(rows: Rows, norm: str, batch: int, seed: int, column: str) -> float:
    """A column at the rate that is best for this norm and batch size on the pictures for choosing, over all seeds."""
    own = rows.where(part="training", norm=norm, batch=batch)
    rate = max(own.distinct("rate"), key=lambda each: own.mean("chosen_by", rate=each))
    return own.one(column, rate=rate, seed=seed)


def _falls(rows: Rows, norm: str) -> list[float]:
    """Accuracy lost from batches of 64 to batches of 2, by seed."""
    return [_best(rows, norm, 64, seed, "accuracy") - _best(rows, norm, 2, seed, "accuracy") for seed in _seeds(rows)]


def _more(rows: Rows) -> Interval:
    """How much more BatchNorm loses than LayerNorm, paired by seed."""
    return interval(
        [left - right for left, right in zip(_falls(rows, "batchnorm"), _falls(rows, "layernorm"), strict=True)]
    )


def _exponent(rows: Rows, column: str) -> Interval:
    own = rows.where(part="statistics")
    return exponent(own.column("size"), own.column(column))
