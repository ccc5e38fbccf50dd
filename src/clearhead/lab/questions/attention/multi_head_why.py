"""What can several heads compute that one head of the same total width cannot?"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from clearhead.data.synthetic import Task
from clearhead.lab.parts.attend import Attend
from clearhead.lab.pictures import bars, label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval
from clearhead.lab.training import (
    Plan,
    build,
    decoder,
    encoder_decoder,
    examples,
    fit,
    logits,
    loss_of,
    score,
    task,
    train,
    trained,
)
from clearhead.model import OPEN, AttentionMask, Transformer
from clearhead.model.attention.heads import attentions, masked_heads
from clearhead.model.position.base import UNRELATED
from clearhead.model.recorder import recording

PLACES, PAYLOAD, WIDTH = 8, 8, 32  # tokens, features a token carries, width of the layer
CEILING, MIXED = 0.53, 0.99  # share of the variance: one head at most, two heads at least
FAR = 64  # tokens back
REACHED = 0.99  # accuracy from which on a model reaches as far as that
SHARE = 0.02  # of the loss: a smaller change counts as none
PLAN = Plan(updates=300, rate=1e-2)


@QUESTIONS.register("multi-head-why")
class MultiHeadWhy(Question):
    """A sum that one weighting cannot make, translation with 1 to 8 heads of equal parameters, a copy from far back."""

    topic = "attention"
    title = Text(
        en="What can several heads compute that one head of the same width cannot?",
        zh="在总宽度和参数量相同时，多个头能做到哪些单个头做不到的事？",
    )
    sources = (
        Source("000", "1"),
        Source("001", "Q1"),
        Source("002", "1.2"),
        Source("002", "2.1"),
        Source("002", "2.1(1)"),
        Source("002", "2.1(3)"),
        Source("002", "2.1(4)"),
        Source("003", "I.1"),
        Source("004", "1"),
    )
    claims = (
        Claim(
            "richer",
            Text(
                en="Heads look at different subspaces, so that a layer gathers more than one head could.",
                zh="各头关注不同的子空间，因此一层能收集到单个头收集不到的信息。",
            ),
            Source("001", "Q1"),
        ),
        Claim(
            "range",
            Text(
                en="A single head has a limited range of attention; each of several heads specialises.",
                zh="单个头的注意范围有限；多个头则各有专长。",
            ),
            Source("000", "1"),
            note=Text(
                en="One head sees every position; what it has only one of is a set of weights for each query.",
                zh="单个头能看到所有位置；它受限的是每个查询只有一组权重。",
            ),
        ),
        Claim(
            "generalises",
            Text(en="Several heads make a model generalise better.", zh="多个头使模型的泛化能力更强。"),
            Source("002", "2.1(3)"),
            note=Text(en="The paper does not say so.", zh="原论文没有这样说。"),
        ),
        Claim(
            "far",
            Text(
                en="Several heads capture long-range dependencies better than one.",
                zh="多个头比单个头更能捕捉长距离依赖。",
            ),
            Source("002", "2.1(4)"),
            note=Text(
                en="Any two positions are one step apart for one head already.",
                zh="单个头已经能让任意两个位置一步相连。",
            ),
        ),
    )
    prediction = Text(
        en="The difference of two neighbours needs two weightings: one head explains half of its variance, two "
        "heads all. In translation the loss with 4 heads is a little lower than with 1, without a smaller gap "
        "between training and test. Copying from 64 tokens back is as good with one head.",
        zh="两个邻居之差需要两组权重：单个头只能解释一半方差，两个头可以全部解释。翻译任务中 4 个头的损失比 1 个头略"
        "低，但训练与测试的差距不会变小。从 64 个 token 之前复制，单个头同样能做好。",
    )
    criterion = Text(
        en="richer: supported if in every run one head explains at most 0.53 of the variance and two heads at least "
        "0.99; refuted if one head explains more; else inconclusive. range: where one head copies from 64 tokens "
        "back with over 99 % right, depends if the trained heads' profiles surely differ more than with heads "
        "shuffled between sentences and than before training, else refuted; supported if only 8 heads get there. "
        "generalises: supported if test loss and gap are surely lower with 8 heads than with 1, depends if only one "
        "of them is, refuted if surely neither falls by 2 % of the loss, else inconclusive. far: "
        "supported if 8 heads are surely better than one, refuted if one head gets over 99 % in every run, so that "
        "nothing can lead it by a point, else inconclusive.",
        zh="richer：每次运行中单头解释的方差都不超过 0.53 且双头不低于 0.99，则成立；单头超过 0.53 则不成立；否则尚"
        "无定论。range：若单头从 64 个 token 之前复制的正确率超过 99%，则当训练后各头注意分布的差异确定大于在句子之"
        "间打乱头编号时、也大于训练之前时，视情况而定，否则不成立；只有 8 个头能做到则成立。generalises：8 个头的测试"
        "损失与差距都确定低于 1 个头则成立，只有一项确定更低则视情况而定，两项都确定没有下降损失的 2% 则不成立，否则尚"
        "无定论。far：8 个头确定优于单头则成立；单头在每次运行中正确率都超过 99%，谁也不可能领先它一个百分点，则不成"
        "立；否则尚无定论。",
    )
    parts = ("clearhead.model.attention.multihead:MultiHead", "clearhead.model.attention.heads:masked_heads")
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, sections 3.2.2 and 4 (Table 1), 6.2 (Table 3, rows A)",
        "Michel, Levy and Neubig, 2019, arXiv:1905.10650",
        "Voita et al., 2019, arXiv:1905.09418",
        "Clark et al., 2019, arXiv:1906.04341, section 3",
        "Cordonnier, Loukas and Jaggi, 2020, arXiv:2006.16362",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        share = scale.pick(quick=0.05, full=1.0)
        for part, counts, seeds in (("sum", (1, 2), 3), ("far", (1, 8), 3), ("translation", (1, 4, 8), 16)):
            for seed in scale.seeds(quick=1, full=seeds):
                for heads in counts:
                    yield {"part": part, "heads": heads, "share": share, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        parts = {"sum": _sum, "far": _far, "translation": _translation}
        plan = replace(PLAN, updates=round(PLAN.updates * float(cell["share"] or 0)))
        return parts[str(cell["part"])](int(cell["heads"] or 0), plan, int(cell["seed"] or 0))

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        one, two = max(rows.column("explained", heads=1)), min(rows.column("explained", heads=2))
        reach = _reach(rows, 1)
        gap, test = _change(rows, "gap"), _change(rows, "test")
        return {
            "richer": Judgement(
                Verdict.REFUTED if one > CEILING else Verdict.SUPPORTED if two >= MIXED else Verdict.INCONCLUSIVE,
                Text(
                    en=f"Of the variance one head explains at most {one:.3f}, two heads at least {two:.3f}.",
                    zh=f"单头解释的方差至多 {one:.3f}，双头至少 {two:.3f}。",
                ),
            ),
            "range": Judgement(
                _range(rows),
                Text(
                    en=f"One head copies from {FAR} tokens back with up to {reach:.1%} right; heads differ after "
                    f"training by {_profile(rows, 'trained'):.3f} bits, shuffled by "
                    f"{_profile(rows, 'shuffled'):.3f}, before training by {_profile(rows, 'untrained'):.3f}.",
                    zh=f"单头从 {FAR} 个 token 之前复制，正确率最高 {reach:.1%}；训练后各头差异为 "
                    f"{_profile(rows, 'trained'):.3f} 比特，打乱后为 {_profile(rows, 'shuffled'):.3f}，训练前为 "
                    f"{_profile(rows, 'untrained'):.3f}。",
                ),
            ),
            "generalises": Judgement(
                _generalises(rows),
                Text(
                    en=f"From 1 to 8 heads the test loss changes by {test} nats, the gap to the training loss by "
                    f"{gap}.",
                    zh=f"头数从 1 增至 8，测试损失变化 {test} 奈特，与训练损失的差距变化 {gap}。",
                ),
            ),
            "far": Judgement(
                _far_verdict(rows),
                Text(
                    en=f"Copying from {FAR} tokens back one head gets at least {_least(rows):.1%} right; 8 heads "
                    f"minus one: {_lead(rows)}.",
                    zh=f"从 {FAR} 个 token 之前复制，单头正确率至少 {_least(rows):.1%}；8 个头减单头为 {_lead(rows)}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        losses = {each: rows.mean("test", heads=each) for each in rows.where(part="translation").distinct("heads")}
        told = ", ".join(f"{each}: {value:.2f}" for each, value in losses.items())
        free, seeds = _removable(rows), len(rows.where(part="translation").distinct("seed"))
        return Answer(
            short=Text(
                en=f"A head has one set of weights for a query, so it returns one average. Two heads return two "
                f"averages, which W_O may subtract: {rows.mean('explained', heads=2):.0%} of such a target's "
                f"variance instead of {rows.mean('explained', heads=1):.0%}. On translation with equal parameters "
                f"the test loss by number of heads is {told} nats.",
                zh=f"一个头对每个查询只有一组权重，因此只能给出一个平均值。两个头给出两个平均值，可由 W_O 相减：这类"
                f"目标的方差可解释 {rows.mean('explained', heads=2):.0%}，而单头只有 "
                f"{rows.mean('explained', heads=1):.0%}。参数量相同的翻译任务中，各头数对应的测试损失（奈特）为 "
                f"{told.replace(', ', '，').replace(': ', ' 个头 ')}。",
            ),
            imprecise=Text(
                en=f"Every head sees all positions, so range is not what a second head adds. Many heads are not all "
                f"needed: of 24 in the model with 8 heads a layer, {free:.0%} can be switched off before the loss "
                f"rises by a tenth.",
                zh=f"每个头都能看到所有位置，增加头数带来的不是范围。头也并非个个必需：每层 8 头的模型共 24 个头，关"
                f"掉 {free:.0%} 之前损失上升不到一成。",
            ),
            limits=Text(
                en=f"Translation: one layer a side, width {WIDTH}, 2,000 pairs of an invented language, {seeds} seeds, one "
                f"learning rate. The target that one head cannot reach was made for the purpose.",
                zh=f"翻译模型的编码器与解码器各一层，宽度 {WIDTH}，2000 对人造语言句子，{seeds} 个种子，单一学习率。单头做不到的那个目标是专门构造的。",
            ),
            caption=Text(
                en="Left: variance of the difference of two neighbours that a layer explains. Middle: translation "
                "loss by heads. Right: loss as the heads that matter least are switched off.",
                zh="左：一层能解释的两邻居之差的方差。中：翻译损失随头数的变化。右：依次关掉最不重要的头时的损失。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (left, middle, right) = panels(3, width=3.3)
        counts = rows.where(part="sum").distinct("heads")
        bars(left, [str(each) for each in counts], [rows.mean("explained", heads=each) for each in counts])
        threshold(left, 0.5, "limit of one weighting")
        left.set_ylim(0, 1.25)
        counts = rows.where(part="translation").distinct("heads")
        for place, name in enumerate(("test", "training")):
            line(middle, counts, [interval(rows.column(name, heads=each)) for each in counts], name, place)
        off = rows.having("off").distinct("off")
        line(right, off, [interval(rows.column("loss", off=each)) for each in off], "8 heads a layer", 2)
        for axes in (left, middle, right):
            axes.legend(fontsize=8)
        label(left, x="heads", y="explained share of the variance")
        label(middle, x="heads in each attention", y="loss (nats per token)")
        label(right, x="heads switched off", y="test loss (nats per token)")
        return figure


class FromPlaces(Attend):
    """Queries and keys are made from places alone, values from what the tokens carry."""

    def forward(self, payload: Tensor, mask: AttentionMask = OPEN) -> Tensor:
        """(batch, places, payload) -> the same shape."""
        places = torch.eye(PLACES, WIDTH)[None].expand(len(payload), -1, -1)
        carried = F.pad(payload, (0, WIDTH - PAYLOAD))  # (batch, places, width)
        key, value = self.projections.keys_values(places)[0], self.projections.keys_values(carried)[1]
        mixed = self.kernel(self.projections.queries(places), key, value, mask, UNRELATED)
        return self.merge(mixed)[..., :PAYLOAD]


def _sum(heads: int, plan: Plan, seed: int) -> Iterable[Row]:
    """How much of the difference between the two neighbours a layer explains."""

    def loss(generator: torch.Generator, count: int = 64) -> Tensor:
        payload = torch.randn(count, PLACES, PAYLOAD, generator=generator)
        return F.mse_loss(layer(payload), payload.roll(1, 1) - payload.roll(-1, 1))

    layer = FromPlaces(WIDTH, heads, projections="separate", seed=seed)
    for _ in fit(layer, loss, replace(plan, updates=2 * plan.updates), seed):
        pass
    with torch.no_grad():
        left = float(loss(torch.Generator().manual_seed(seed + 1), 4096))
    yield {"explained": 1 - left / 2}  # the target has variance 2


def _far(heads: int, plan: Plan, seed: int) -> Iterable[Row]:
    """A running copy from far back by one layer."""
    delay = task("delay", {"delay": FAR, "length": FAR + 32})
    config = decoder(delay.vocab, {"heads": heads, "decoder_layers": 1, "position": "rope"})
    model = trained(config, delay, replace(plan, batch=16), seed)
    yield {"accuracy": score(model, delay, seed, 128).accuracy}


def _translation(heads: int, plan: Plan, seed: int) -> Iterable[Row]:
    """Losses on training and test pairs; with 8 heads also what they look at, and what they are worth."""
    pairs, test = task("toy_mt", {"pairs": 2000}), task("toy_mt", {"split": "test"})
    model = build(encoder_decoder(pairs.vocab, {"heads": heads}), seed)
    before = _profiles(model, test, seed)
    for _ in train(model, pairs, plan, seed):
        pass
    losses = [score(model, each, seed).loss for each in (test, pairs)]
    yield {"test": losses[0], "training": losses[1], "gap": losses[0] - losses[1]}
    if heads == 8:
        after = _profiles(model.eval(), test, seed)
        yield {"untrained": _spread(before), "trained": _spread(after), "shuffled": _spread(_shuffled(after, seed))}
        yield from _pruning(model, test, seed)


@torch.no_grad()
def _profiles(model: Transformer, pairs: Task, seed: int) -> Tensor:
    """How the weights of the encoder's heads spread over distances: (sentences, heads, distances), rows sum to 1."""
    samples = examples(pairs, 128, seed, "profiles")
    assert samples.source is not None
    assert samples.source_valid is not None
    with recording(model) as record:
        model.encode(samples.source, samples.source_valid)
    weights = record["encoder.blocks.0.attention"] * samples.source_valid[:, None, :, None]
    place = torch.arange(weights.shape[-1])
    distance = (place - place[:, None] + len(place) - 1).flatten()
    sums = weights.new_zeros(*weights.shape[:2], 2 * len(place) - 1).index_add(2, distance, weights.flatten(2))
    return sums / sums.sum(dim=-1, keepdim=True)


def _shuffled(profiles: Tensor, seed: int) -> Tensor:
    """The same profiles with the heads renumbered in each sentence, so that no head has a manner of its own."""
    order = torch.rand(profiles.shape[:2], generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    return profiles.gather(1, order[..., None].expand_as(profiles))


def _spread(profiles: Tensor) -> float:
    """The Jensen-Shannon divergence between the heads' mean profiles, in bits."""
    heads = profiles.mean(dim=0)  # (heads, distances)
    nats = torch.special.entr(heads.mean(dim=0)).sum() - torch.special.entr(heads).sum(dim=-1).mean()
    return float(nats / torch.log(torch.tensor(2.0)))


@torch.no_grad()
def _pruning(model: Transformer, pairs: Task, seed: int) -> Iterable[Row]:
    """The loss while heads are switched off, first those whose loss alone costs least."""
    samples = examples(pairs, 128, seed, "pruning")

    def without(heads: list[tuple[str, int]]) -> float:
        paths = {path: [head for at, head in heads if at == path] for path, _ in heads}
        with masked_heads(model, paths):
            return float(loss_of(logits(model, samples), samples.labels))

    every = [(path, head) for path, each in attentions(model).items() for head in range(each.projections.sizes.heads)]
    order = sorted(every, key=lambda each: without([each]))
    for off in range(0, len(order) + 1, 2):
        yield {"off": off, "loss": without(order[:off])}


def _range(rows: Rows) -> Verdict:
    if _reach(rows, 1) > REACHED:
        return Verdict.DEPENDS if _specialised(rows) else Verdict.REFUTED
    return Verdict.SUPPORTED if _reach(rows, 8) > REACHED else Verdict.INCONCLUSIVE


def _far_verdict(rows: Rows) -> Verdict:
    if _lead(rows).above:
        return Verdict.SUPPORTED
    return Verdict.REFUTED if _least(rows) > REACHED else Verdict.INCONCLUSIVE  # nothing can lead it by a point


def _least(rows: Rows) -> float:
    """How well one head copies from far back in the worst run."""
    return min(rows.column("accuracy", part="far", heads=1))


def _reach(rows: Rows, heads: int) -> float:
    """How well so many heads copy from far back in the best run: what they can reach."""
    return max(rows.column("accuracy", part="far", heads=heads))


def _lead(rows: Rows) -> Interval:
    """How much better 8 heads copy from far back than one, paired by seed."""
    return interval(rows.where(part="far").paired("accuracy", {"heads": 8}, {"heads": 1}))


def _generalises(rows: Rows) -> Verdict:
    gap, test = _change(rows, "gap"), _change(rows, "test")
    if gap.below or test.below:
        return Verdict.SUPPORTED if gap.below and test.below else Verdict.DEPENDS
    least = SHARE * rows.mean("test", heads=1)
    return Verdict.REFUTED if min(gap.low, test.low) > -least else Verdict.INCONCLUSIVE


def _change(rows: Rows, column: str) -> Interval:
    """From one head to eight, paired by seed."""
    return interval(rows.where(part="translation").paired(column, {"heads": 8}, {"heads": 1}))


def _specialised(rows: Rows) -> bool:
    """Whether the trained heads surely differ more than with shuffled numbers, and than before training."""
    own = rows.having("trained")
    return all(
        interval([a - b for a, b in zip(own.column("trained"), own.column(other), strict=True)]).above
        for other in ("shuffled", "untrained")
    )


def _profile(rows: Rows, name: str) -> float:
    return rows.mean(name, part="translation", heads=8)


def _removable(rows: Rows) -> float:
    """The share of heads that can be off before the loss rises by a tenth, mean over seeds."""
    shares = []
    for seed in rows.having("off").distinct("seed"):
        own = rows.where(seed=seed, part="translation").having("off")
        fine = [row["off"] for row in own if float(row["loss"] or 0) <= 1.1 * own.one("loss", off=0)]
        shares.append(max(float(each or 0) for each in fine) / max(own.column("off")))
    return sum(shares) / len(shares)
