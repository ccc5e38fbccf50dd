"""Why the square root of d_k and no other power?"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.lab.parts.lookup import PLAN, lookup, reader
from clearhead.lab.pictures import label, line, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, equivalent, exponent, interval
from clearhead.lab.training import build, examples, logits, score, train
from clearhead.model import OPEN, Transformer
from clearhead.model.attention.dot import Dot
from clearhead.model.position.base import UNRELATED
from clearhead.model.recorder import EVERYTHING, recording

NUMBERS, GROUP = 2**21, 32  # components drawn a side; queries that meet the same so many keys
INDEPENDENT = ("normal", "uniform", "two values", "laplace")  # laws of mean 0 and variance 1
DEPENDENT = ("components correlated", "key like its query")
SLOPE, VARIANCE = 0.01, 0.02  # how near to 0.5 and to 1 the measured numbers must lie
STEEPER = 0.6  # an exponent above this is no square root any more
FLAT = 0.1  # weight beside the largest, unscaled over scaled, that counts as flattened softmax
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)


@QUESTIONS.register("sqrt-dk-exponent")
class SqrtDkExponent(Question):
    """The power law of scores for independent, dependent and trained vectors, then training with other powers."""

    topic = "attention"
    title = Text(
        en="Why exactly the square root of d_k, and does its reason survive training?",
        zh="为什么恰好是 d_k 的平方根？这个理由在训练之后还成立吗？",
    )
    sources = (Source("002", "1.2(2)"), Source("003", "I.4"), Source("003", "IV.20"), Source("001", "Q4"))
    claims = (
        Claim(
            "variance",
            Text(
                en="For independent components of mean 0 and variance 1, the divided score has mean 0 and variance 1.",
                zh="若各分量独立、均值为 0、方差为 1，则除以 √d_k 之后打分的均值为 0、方差为 1。",
            ),
            Source("002", "1.2(2)"),
        ),
        Claim(
            "flat",
            Text(en="The scale keeps softmax out of its flat region.", zh="缩放使 softmax 不落入平坦区。"),
            Source("001", "Q4"),
            note=Text(
                en="Its derivation is one line: the variance of a sum of d_k independent products is d_k.",
                zh="推导只需一行：d_k 个独立乘积之和的方差等于 d_k。",
            ),
        ),
        Claim(
            "only",
            Text(en="The square root is the one right power.", zh="只有平方根这个幂次才是对的。"),
            Source("003", "I.4"),
            note=Text(en="A premise of the question.", zh="这是提问中隐含的前提。"),
        ),
    )
    prediction = Text(
        en="Scores of independent vectors spread with power 0.5, whatever their law. Correlated components, and "
        "keys that resemble their queries, give a power near 1; training makes queries and keys depend on each "
        "other, so even standardised components give more than 0.6. Powers 0.5 to 1 train about equally well at "
        "these widths.",
        zh="独立向量的打分按 0.5 次幂离散，与分布无关。分量相关、或键与查询相似时，幂次接近 1；训练会使查询与键相互依"
        "赖，即便把各分量标准化，幂次也会超过 0.6。在这些宽度上，0.5 到 1 之间的幂次训练效果相近。",
    )
    criterion = Text(
        en="variance: supported if for each of four laws the fitted power is 0.500 within 0.01 and, after division, "
        "the mean is 0 and the variance 1 within 0.02 (two one-sided tests over widths and seeds); refuted if one "
        "of them surely lies outside. flat: supported if at the largest width the weight beside the largest one is "
        "below a tenth of what the scale leaves, in every seed, else refuted. only: depends if the power for "
        "dependent or trained vectors surely exceeds 0.6; else supported if every other power trains surely worse, "
        "inconclusive otherwise.",
        zh="方差：四种分布的拟合幂次均在 0.500±0.01 之内，且相除后均值在 0±0.02、方差在 1±0.02 之内（跨宽度与种子做"
        "双单侧检验），则成立；有一项确定在范围之外，则不成立。平坦：在最大宽度上，除最大权重以外的权重之和，不缩放"
        "时在每个种子下都低于缩放时的十分之一，则成立，否则不成立。唯一：若相关向量或训练后向量的幂次确定大于 0.6，"
        "则视情况而定；否则，其他幂次都确定更差则成立，再否则尚无定论。",
    )
    parts = ("clearhead.model.attention.dot:dot_scale", "clearhead.model.attention.dot:Dot")
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2.1 and footnote 4",
        "Yang et al., 2022, arXiv:2203.03466 (Tensor Programs V), which divides by d_k",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        widths = scale.pick(quick=(4, 64, 1024), full=(4, 16, 64, 256, 1024, 4096))
        for seed in scale.seeds(quick=1, full=3):
            for d_k in widths:
                yield {"part": "random", "d_k": d_k, "seed": seed}
        updates = scale.pick(quick=20, full=300)
        for seed in scale.seeds(quick=1, full=3):
            for d_k in scale.pick(quick=(16, 64), full=(16, 64, 256)):
                for power in POWERS if scale.name == "full" and d_k != 256 else (0.5,):
                    yield {"part": "trained", "d_k": d_k, "power": power, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        return _trained(cell) if cell["part"] == "trained" else _random(int(cell["d_k"] or 0), int(cell["seed"] or 0))

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        powers, wide = _powers(rows), max(rows.where(part="random").distinct("d_k"))
        worst = max(abs(rows.mean("divided_variance", law=each) - 1.0) for each in INDEPENDENT)
        left = max(rows.column("beside", law="normal", d_k=wide))
        steep = {name: each for name, each in powers.items() if each.low > STEEPER}
        worse = [_harm(rows, power, d_k) for power in POWERS if power != 0.5 for d_k in _swept(rows)]
        only = Verdict.SUPPORTED if worse and all(each.above for each in worse) else Verdict.INCONCLUSIVE
        laws = ", ".join(f"{powers[each].mean:.3f}" for each in INDEPENDENT)
        others = "; ".join(f"{name} {powers[name]}" for name in (*DEPENDENT, "trained"))
        return {
            "variance": Judgement(
                _variance(rows, powers),
                Text(
                    en=f"Fitted powers {laws}; the variance after division is off by at most {worst:.2g}.",
                    zh=f"拟合幂次为 {laws}；相除后的方差与 1 最多相差 {worst:.2g}。",
                ),
            ),
            "flat": Judgement(
                Verdict.SUPPORTED if left < FLAT else Verdict.REFUTED,
                Text(
                    en=f"At d_k = {wide} the keys beside the largest get at most {left:.2g} times what the scale "
                    f"leaves them.",
                    zh=f"d_k = {wide} 时，不缩放使最大者以外的键所得权重至多为缩放时的 {left:.2g} 倍。",
                ),
            ),
            "only": Judgement(
                Verdict.DEPENDS if steep else only,
                Text(en=f"Powers with 95 % intervals: {others}.", zh=f"幂次及 95% 区间：{_chinese(others)}。"),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        powers = _powers(rows)
        fresh, after = powers["untrained"], powers["trained"]
        moved = after.low > fresh.high
        best = {each: _best_power(rows, each) for each in _swept(rows)}
        told = ", ".join(f"{power} at d_k = {d_k}" for d_k, power in best.items())
        told_zh = "、".join(f"d_k = {d_k} 时为 {power}" for d_k, power in best.items())
        return Answer(
            short=Text(
                en=f"A score sums d_k products. If they are independent their variances add, so the spread is "
                f"sqrt(d_k): measured power {powers['normal'].mean:.3f}. If they depend on each other, means or "
                f"covariances add too and the power goes towards 1 ({powers['components correlated'].mean:.2f} and "
                f"{powers['key like its query'].mean:.2f} in two examples). In a lookup model the power of "
                f"standardised queries and keys is {fresh.mean:.2f} before and {after.mean:.2f} after training"
                + (", so training breaks the assumption." if moved else ", no sure change."),
                zh=f"打分是 d_k 个乘积之和。若它们相互独立，方差相加，离散程度就是 √d_k：实测幂次 "
                f"{powers['normal'].mean:.3f}。若彼此相关，均值或协方差也会累加，幂次便趋向 1（两个例子中为 "
                f"{powers['components correlated'].mean:.2f} 和 {powers['key like its query'].mean:.2f}）。在查表模型"
                f"里，标准化后的查询与键，训练前幂次为 {fresh.mean:.2f}，"
                f"训练后为 {after.mean:.2f}" + ("，可见训练打破了这一假设。" if moved else "，没有确定的变化。"),
            ),
            imprecise=Text(
                en=f"The square root is right where training starts, not a law for what comes after. Power of the "
                f"lowest mean loss at one learning rate: {told}.",
                zh=f"平方根适用于训练的起点，并非此后的定律。在同一学习率下，平均损失最低的幂次：{told_zh}。",
            ),
            limits=Text(
                en=f"Training: one head in two layers, one lookup task, one learning rate, "
                f"{len(rows.where(part='trained').distinct('seed'))} seeds. The model's width is 32, so wider heads "
                f"hold redundant components.",
                zh=f"训练部分：两层单头、一个查表任务、一个学习率、"
                f"{len(rows.where(part='trained').distinct('seed'))} 个种子。模型宽度为 32，更宽的头含有冗余分量。",
            ),
            caption=Text(
                en="Left: size of a score as the head widens; the steeper the line, the higher the power. Right: "
                "loss after training with other powers.",
                zh="左：头变宽时打分的大小，线越陡幂次越高。右：用其他幂次训练后的损失。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (left, right) = panels(2)
        for place, name in enumerate(("normal", *DEPENDENT, "untrained", "trained")):
            own = _of(rows, name)
            widths = own.distinct("d_k")
            line(
                left,
                widths,
                [own.mean("size", d_k=d) for d in widths],
                f"{name} ({_powers(rows)[name].mean:.2f})",
                place,
            )
        left.set_xscale("log", base=2)
        left.set_yscale("log")
        for place, d_k in enumerate(_swept(rows)):
            powers = _tried(rows)
            line(right, powers, [rows.mean("loss", d_k=d_k, power=p) for p in powers], f"d_k = {d_k}", place)
        right.set_ylim(bottom=0.0)
        for axes in (left, right):
            axes.legend(fontsize=8)
        label(left, x="width of a head d_k", y="size of a score (root mean square)", title="kind of vectors (power)")
        label(right, x="p in scores divided by d_k^p", y="loss on fresh lookups (nats)")
        return figure


def _draw(law: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Components of mean 0 and variance 1."""
    uniform = torch.rand(shape, generator=generator) - 0.5
    if law == "uniform":
        return uniform * 12**0.5
    if law == "two values":
        return uniform.sign()
    if law == "laplace":
        return -uniform.sign() * (1 - 2 * uniform.abs()).clamp(min=1e-7).log() / 2**0.5
    return torch.randn(shape, generator=generator)


def _pairs(law: str, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Queries and keys of that kind, each of variance 1."""
    plain = law if law in INDEPENDENT else "normal"
    query, key = (_draw(plain, shape, generator) for _ in range(2))
    if law == "components correlated":  # 0.1 between any two components of a vector
        common = [0.1**0.5 * _draw(plain, (*shape[:-1], 1), generator) for _ in range(2)]
        return 0.9**0.5 * query + common[0], 0.9**0.5 * key + common[1]
    return (query, (query + key) / 2**0.5) if law == "key like its query" else (query, key)


def _random(d_k: int, seed: int) -> Iterable[Row]:
    """Sizes of scores, and what softmax leaves to keys beside the largest."""
    generator = torch.Generator().manual_seed(seed)
    shape = (min(NUMBERS // (GROUP * d_k), 512), 1, GROUP, d_k)
    plain, divided = Dot(1, d_k, 0.0, exponent=0.0), Dot(1, d_k, 0.0)
    for law in (*INDEPENDENT, *DEPENDENT):
        query, key = _pairs(law, shape, generator)
        scores = plain.scores(query, key)  # (sets, 1, queries, keys)
        asked = scores.diagonal(dim1=-2, dim2=-1) if law == "key like its query" else scores
        beside = [1 - kernel.weights(query, key, OPEN, UNRELATED).amax(dim=-1) for kernel in (plain, divided)]
        yield {
            "law": law,
            "size": float(asked.square().mean().sqrt()),
            "divided_mean": float(divided.scores(query, key).mean()),
            "divided_variance": float(divided.scores(query, key).square().mean()),
            "beside": float(beside[0].mean() / beside[1].mean()),
        }


def _trained(cell: Cell) -> Iterable[Row]:
    """Sizes of scores of standardised queries and keys before and after training, and the loss."""
    d_k, seed = int(cell["d_k"] or 0), int(cell["seed"] or 0)
    config = reader({"heads": 1, "d_head": d_k, "attention": {"kind": "dot", "exponent": float(cell["power"] or 0)}})
    model = build(config, seed)
    before = _size(model, seed)
    for _ in train(model, lookup(), replace(PLAN, rate=3e-3, updates=int(cell["updates"] or 0)), seed):
        pass
    found = score(model, lookup(), seed)
    yield {"law": "untrained", "size": before}
    yield {"law": "trained", "size": _size(model, seed), "loss": found.loss, "accuracy": found.accuracy}


@torch.no_grad()
def _size(model: Transformer, seed: int) -> float:
    """Root mean square of the scores in the layer that looks the answer up, with each component standardised."""
    samples = examples(lookup(), 256, seed, "probe")
    with recording(model.eval(), EVERYTHING) as record:
        logits(model, samples)
    query, key = (_standard(record[f"decoder.blocks.1.attention.{each}"]) for each in ("queries", "keys"))
    return float((query @ key.transpose(-1, -2)).square().mean().sqrt())


def _standard(states: Tensor) -> Tensor:
    """Each component to mean 0 and variance 1 over all tokens: (batch, 1, length, d_head) as it is."""
    rows = states.flatten(0, 2)
    return (states - rows.mean(dim=0)) / rows.std(dim=0).clamp(min=1e-6)


def _of(rows: Rows, name: str) -> Rows:
    """The rows of a kind of vectors; of trained ones those with the square root."""
    return rows.where(law=name, power=0.5) if name.endswith("trained") else rows.where(law=name)


def _powers(rows: Rows) -> dict[str, Interval]:
    names = (*INDEPENDENT, *DEPENDENT, "untrained", "trained")
    return {each: exponent(_of(rows, each).column("d_k"), _of(rows, each).column("size")) for each in names}


def _variance(rows: Rows, powers: Mapping[str, Interval]) -> Verdict:
    """Whether mean, variance and power surely are what the derivation says, surely are not, or neither."""
    off = [[value - 1.0 for value in rows.column("divided_variance", law=each)] for each in INDEPENDENT]
    off += [rows.column("divided_mean", law=each) for each in INDEPENDENT]
    near = all(abs(powers[each].mean - 0.5) <= SLOPE for each in INDEPENDENT)
    if near and all(equivalent(each, VARIANCE) for each in off):
        return Verdict.SUPPORTED
    beyond = any(abs(interval(each).mean) > VARIANCE and interval(each).excludes() for each in off)
    return Verdict.REFUTED if beyond or not near else Verdict.INCONCLUSIVE


def _swept(rows: Rows) -> list[int]:
    """Widths at which all powers were tried, or else all there are."""
    trained = rows.where(law="trained")
    return trained.where(power=0.0).distinct("d_k") or trained.distinct("d_k")


def _tried(rows: Rows) -> list[float]:
    return rows.where(law="trained", d_k=_swept(rows)[0]).distinct("power")


def _best_power(rows: Rows, d_k: int) -> float:
    """The power with the lowest mean loss."""
    return min(_tried(rows), key=lambda power: rows.mean("loss", law="trained", d_k=d_k, power=power))


def _harm(rows: Rows, power: float, d_k: int) -> Interval:
    """How much more loss another power leaves than the square root, paired by seed."""
    own = rows.where(law="trained", d_k=d_k)
    return interval(own.paired("loss", {"power": power}, {"power": 0.5}))


def _chinese(names: str) -> str:
    words = {"components correlated": "分量相关", "key like its query": "键与查询相似", "trained": "训练之后"}
    for english, chinese in words.items():
        names = names.replace(english, chinese)
    return names.replace("; ", "；")
