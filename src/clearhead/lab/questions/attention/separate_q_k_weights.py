"""Why are queries and keys made by different matrices?"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from clearhead.data.synthetic import Samples, Task
from clearhead.lab.parts.attend import Attend
from clearhead.lab.pictures import bars, label, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval
from clearhead.lab.training import Plan, build, decoder, examples, fit, loss_of, task
from clearhead.model import CAUSAL, AttentionMask, Transformer

SYMBOLS, PAYLOAD, WIDTH = 12, 16, 32  # symbols in a circle, features a symbol carries, width of the layer
DRAWS, LENGTH = 100, 50  # random layers, tokens they read
EXACT = 1e-10  # float64, in shares of the largest score
LIMIT = (SYMBOLS - 1) / SYMBOLS  # successors that symmetric scores can find
FOUND = 0.99
SHARE = 0.02  # of the loss: a smaller change counts as none
PLAN = Plan(updates=300, rate=1e-2)
VARIANTS: Mapping[str, Any] = {
    "separate": "separate",
    "shared": {"kind": "shared_qk", "normalise": False},
    "self hidden": {"kind": "shared_qk", "normalise": False},
    "no matrices": "identity",
}
RECIPE: Mapping[str, Any] = {"separate": "separate", "shared recipe": "shared_qk"}


@QUESTIONS.register("separate-q-k-weights")
class SeparateQKWeights(Question):
    """Symmetry of scores, a lookup that symmetric scores cannot do, and a recipe that shares all the same."""

    topic = "attention"
    title = Text(
        en="Why are queries and keys made by different matrices?",
        zh="查询和键为什么要用不同的矩阵生成？",
    )
    sources = (Source("000", "2"), Source("001", "Q2"), Source("003", "I.2"))
    claims = (
        Claim(
            "nonlinear",
            Text(
                en="Separate matrices add to the non-linear power of the model.",
                zh="分开的矩阵增强了模型的非线性表达能力。",
            ),
            Source("000", "2"),
            note=Text(
                en="A score is bilinear in the two tokens with one matrix or with two.",
                zh="无论用一个还是两个矩阵，打分对两个 token 都是双线性的。",
            ),
        ),
        Claim(
            "limits",
            Text(
                en="With one shared matrix queries and keys are alike, which limits the patterns that can be found.",
                zh="共用一个矩阵时查询与键雷同，限制了能识别的模式。",
            ),
            Source("000", "2"),
        ),
        Claim(
            "generalises",
            Text(
                en="Different matrices make the model more expressive and generalise better.",
                zh="不同的矩阵既提高表达能力，也提高泛化能力。",
            ),
            Source("001", "Q2"),
            note=Text(
                en="Reformer shares the matrix and reports no loss, with normalised keys and a token hidden from "
                "itself.",
                zh="Reformer 共用矩阵而未见损失，但它把键归一化，并让 token 看不到自己。",
            ),
        ),
    )
    prediction = Text(
        en="Scores are linear in the query either way. A shared matrix makes them symmetric, so at most 11 of 12 "
        "symbols find their successor, and fewer in fact; two matrices find all. With Reformer's recipe the loss in "
        "translation changes too little to be seen with five seeds.",
        zh="两种做法的打分对查询都是线性的。共用矩阵使打分对称，12 个符号至多 11 个能找到后继，实际更少；两个矩阵则全部"
        "找到。采用 Reformer 的做法时，翻译损失的变化小到五个种子看不出来。",
    )
    criterion = Text(
        en="nonlinear: refuted if s(ax, y) = a s(x, y) to 1e-10 with one matrix and with two, else supported. "
        "limits: supported if in every run two matrices find at least 99 % of the successors and a shared one at "
        "most 11 of 12, refuted if a shared one finds more, else inconclusive. generalises: if limits is supported, "
        "supported where the test loss with the shared recipe is surely higher by 2 %, depends where it surely is "
        "not; refuted if limits is refuted; else inconclusive.",
        zh="nonlinear：一个矩阵与两个矩阵都满足 s(ax,y) = a s(x,y)（误差 1e-10 内）则不成立，否则成立。limits：每次"
        "运行中两个矩阵都找到至少 99% 的后继，而共用矩阵不超过 12 个中的 11 个，则成立；共用矩阵找到更多则不成立；否"
        "则尚无定论。generalises：limits 成立时，若共用做法的测试损失确定高出 2% 则成立，确定没有高出这么多则视情况而定；"
        "limits 不成立则不成立；其余尚无定论。",
    )
    parts = (
        "clearhead.model.attention.separate:Separate",
        "clearhead.model.attention.shared_qk:SharedQK",
        "clearhead.model.attention.identity:Identity",
    )
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2.2",
        "Kitaev, Kaiser and Levskaya, 2020, arXiv:2001.04451, sections 2 and 5",
        "Elhage et al., 2021, A Mathematical Framework for Transformer Circuits (query-key circuit)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        updates = scale.pick(quick=20, full=PLAN.updates)
        for seed in scale.seeds(quick=1, full=5):
            yield {"part": "scores", "seed": seed}
            for variant in VARIANTS:
                yield {"part": "successor", "variant": variant, "updates": 4 * updates, "seed": seed}
            for variant in RECIPE:
                yield {"part": "translation", "variant": variant, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        variant, seed = str(cell.get("variant")), int(cell["seed"] or 0)
        if cell["part"] == "scores":
            return _scores(seed)
        plan = replace(PLAN, updates=int(cell["updates"] or 0))
        return [_successor(variant, plan, seed) if cell["part"] == "successor" else _translation(variant, plan, seed)]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        bent, even = max(rows.column("bent")), max(rows.column("asymmetric", variant="shared"))
        separate = min(rows.column("found", variant="separate"))
        shared = max(max(rows.column("found", variant=each)) for each in ("shared", "self hidden"))
        limits = _limits(separate, shared)
        harm = _harm(rows)
        general = _generalises(harm, least=_least(rows)) if limits is Verdict.SUPPORTED else limits
        return {
            "nonlinear": Judgement(
                Verdict.REFUTED if bent <= EXACT else Verdict.SUPPORTED,
                Text(
                    en=f"Scores of one and of two matrices are linear in the query to {bent:.1g}.",
                    zh=f"一个矩阵与两个矩阵的打分对查询都是线性的，误差 {bent:.1g}。",
                ),
            ),
            "limits": Judgement(
                limits,
                Text(
                    en=f"Successors found: two matrices at least {separate:.1%}, a shared one at most {shared:.1%}, "
                    f"whose scores are symmetric to {even:.1g}.",
                    zh=f"找到的后继：两个矩阵至少 {separate:.1%}，共用矩阵至多 {shared:.1%}；后者的打分对称，误差 "
                    f"{even:.1g}。",
                ),
            ),
            "generalises": Judgement(
                general,
                Text(
                    en=f"Test loss with the shared recipe minus that with two matrices: {harm} nats; {_least(rows):.3f} "
                    f"would count.",
                    zh=f"共用做法与两个矩阵的测试损失之差：{harm} 奈特；达到 {_least(rows):.3f} 才算数。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        found = {each: rows.mean("found", variant=each) for each in VARIANTS}
        own = {each: rows.mean("own_largest", variant=each) for each in ("separate", "shared")}
        harm = _harm(rows)
        sure = harm.excludes()
        return Answer(
            short=Text(
                en=f"What is lost is direction: with one matrix token i scores j as j scores i, and in "
                f"{own['shared']:.0%} of the rows of random layers a token scores itself highest "
                f"({own['separate']:.0%} with two matrices). Asked to find the next of {SYMBOLS} symbols in a "
                f"circle, two matrices find {found['separate']:.0%}, one shared matrix {found['shared']:.0%} "
                f"({found['self hidden']:.0%} if no token sees itself), the inputs themselves "
                f"{found['no matrices']:.0%}.",
                zh=f"失去的是方向性：只有一个矩阵时，i 对 j 的打分等于 j 对 i 的打分；在随机初始化的层"
                f"中，{own['shared']:.0%} 的行里 token 给自己的打分最高（两个矩阵时为 {own['separate']:.0%}）。要找出围"
                f"成一圈的 {SYMBOLS} 个符号各自的下一个，两个矩阵找到 {found['separate']:.0%}，共用一个矩阵 "
                f"{found['shared']:.0%}（看不到自己时 {found['self hidden']:.0%}），直接用输入 "
                f"{found['no matrices']:.0%}。",
            ),
            imprecise=Text(
                en=f"Nothing non-linear is added: two matrices make the bilinear form asymmetric. With keys of equal "
                f"length and a token hidden from itself, sharing changes the translation loss by {harm} nats"
                + (", a sure difference." if sure else ", no sure difference."),
                zh=f"并没有增加非线性，两个矩阵只是让双线性形式可以不对称。若把键归一化、并让 token 看不到自己，共用矩"
                f"阵使翻译损失变化 {harm} 奈特，差异{'确定' if sure else '不确定'}。",
            ),
            limits=Text(
                en=f"The bound of 11 in 12 is a proof; the rest is one layer of width {WIDTH} and two layers on "
                f"2,000 pairs, {len(rows.distinct('seed'))} seeds, a decoder-only model, whose order comes from its "
                f"causal mask too.",
                zh=f"12 分之 11 的上界可以证明；其余来自宽度 {WIDTH} 的单层模型，以及在 2000 对句子上训练的两层纯解码器"
                f"（因果掩码本身也提供了顺序），{len(rows.distinct('seed'))} 个种子。",
            ),
            caption=Text(
                en="Left: symbols that find their successor; symmetric scores cannot pass the line. Right: test "
                "loss in translation.",
                zh="左：能找到后继的符号比例，对称的打分越不过虚线。右：翻译的测试损失。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (left, right) = panels(2)
        bars(left, list(VARIANTS), [interval(rows.column("found", variant=each)) for each in VARIANTS])
        threshold(left, LIMIT, "most that symmetric scores can find")
        left.legend(fontsize=8, loc="upper right")
        left.set_ylim(0.0, 1.2)
        bars(right, list(RECIPE), [interval(rows.column("loss", variant=each)) for each in RECIPE])
        label(left, x="matrices of queries and keys", y="successors found (share)")
        label(right, x="matrices of queries and keys", y="test loss (nats per token)")
        return figure


def _layer(variant: str, seed: int) -> Attend:
    """One head over the whole width, without a residual."""
    return Attend(WIDTH, 1, projections=VARIANTS[variant], seed=seed)


@torch.no_grad()
def _scores(seed: int) -> Iterable[Row]:
    """Laws of the scores of random layers, in float64; differences in shares of the largest score."""
    generator = torch.Generator().manual_seed(seed)
    for variant in ("separate", "shared"):
        found = [_laws(_layer(variant, seed * DRAWS + draw), generator) for draw in range(DRAWS)]
        worst = {name: max(each[name] for each in found) for name in ("asymmetric", "bent", "beyond")}
        yield {"variant": variant, **worst, "own_largest": sum(each["own_largest"] for each in found) / DRAWS}


def _laws(layer: Attend, generator: torch.Generator) -> dict[str, float]:
    hidden = torch.randn(1, LENGTH, WIDTH, generator=generator, dtype=torch.float64)
    projections = layer.double().projections
    query, (key, _) = projections.queries(hidden), projections.keys_values(hidden)
    scores, longer = (layer.kernel.scores(each, key)[0, 0] for each in (query, projections.queries(3 * hidden)))  # type: ignore[operator]
    size, own = scores.abs().max(), scores.diagonal().clamp(min=0).sqrt()
    return {
        "asymmetric": float((scores - scores.T).abs().max() / size),
        "bent": float((longer - 3 * scores).abs().max() / size),
        "beyond": float((scores.abs() - own[:, None] * own).max() / size),  # above 0: past the Cauchy-Schwarz bound
        "own_largest": float((scores.argmax(dim=-1) == torch.arange(LENGTH)).double().mean()),
    }


def _circle(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Symbols in random order with payloads: the inputs, where each one's successor stands, and its payload."""
    order = torch.rand(count, SYMBOLS, generator=generator).argsort(dim=1)  # (batch, places), the symbol at each place
    payload = torch.randn(count, SYMBOLS, PAYLOAD, generator=generator)
    hidden = torch.cat([F.one_hot(order, SYMBOLS), payload], dim=-1)
    successor = order.argsort(dim=1).gather(1, (order + 1) % SYMBOLS)  # (batch, places), where it stands
    fetched = payload.gather(1, successor[..., None].expand_as(payload))
    return F.pad(hidden, (0, WIDTH - SYMBOLS - PAYLOAD)), successor, fetched


def _successor(variant: str, plan: Plan, seed: int) -> Row:
    """The share of symbols whose largest weight lies on their successor after training to fetch its payload."""
    layer, mask = _layer(variant, seed), AttentionMask(own=variant != "self hidden")

    def loss(generator: torch.Generator) -> Tensor:
        hidden, _, fetched = _circle(plan.batch, generator)
        return F.mse_loss(layer(hidden, mask)[..., :PAYLOAD], fetched)

    for _ in fit(layer, loss, plan, seed):
        pass
    hidden, successor, _ = _circle(512, torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        return {"found": float((layer.weights(hidden, mask)[:, 0].argmax(dim=-1) == successor).double().mean())}


def _translation(variant: str, plan: Plan, seed: int) -> Row:
    """Test loss of a decoder that reads both sentences; the shared recipe hides each token from itself."""
    pairs, test = (
        task("toy_mt", {"pairs": 2000, "form": "decoder"}),
        task("toy_mt", {"split": "test", "form": "decoder"}),
    )
    model = build(decoder(pairs.vocab, {"position": "rope", "projections": RECIPE[variant]}), seed)
    mask = CAUSAL & AttentionMask(own=variant == "separate")
    for _ in fit(model, _loss(model, pairs, mask, plan.batch), plan, seed):
        pass
    with torch.no_grad():
        return {"loss": float(_of(model.eval(), examples(test, 512, seed, "score"), mask))}


def _loss(model: Transformer, pairs: Task, mask: AttentionMask, batch: int) -> Callable[[torch.Generator], Tensor]:
    return lambda generator: _of(model, pairs.draw(batch, generator), mask)


def _of(model: Transformer, samples: Samples, mask: AttentionMask) -> Tensor:
    hidden = model.decode(samples.tokens, valid=samples.valid, mask=mask)
    return loss_of(model.logits(hidden), samples.labels)


def _limits(separate: float, shared: float) -> Verdict:
    if shared > LIMIT:
        return Verdict.REFUTED
    return Verdict.SUPPORTED if separate >= FOUND else Verdict.INCONCLUSIVE


def _generalises(harm: Interval, *, least: float) -> Verdict:
    """Where sharing limits what can be found: whether it also harms a model that has other ways."""
    if harm.low > least:
        return Verdict.SUPPORTED
    return Verdict.DEPENDS if harm.high < least else Verdict.INCONCLUSIVE


def _least(rows: Rows) -> float:
    """The smallest change of the test loss that counts, nats."""
    return SHARE * rows.mean("loss", part="translation", variant="separate")


def _harm(rows: Rows) -> Interval:
    """How much more test loss the shared recipe leaves, paired by seed."""
    own = rows.where(part="translation")
    return interval(own.paired("loss", {"variant": "shared recipe"}, {"variant": "separate"}))
