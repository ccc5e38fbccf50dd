"""Do sinusoidal codes carry relative positions, and does attention keep that?"""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.lab.parts.longer import SEEN, learner
from clearhead.lab.pictures import bars, label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import interval
from clearhead.model.position.sinusoidal import waves

WIDTH, LONGEST, SHIFTS, BASE = 64, 2048, (1, 7, 100), 10_000.0
CODES = ("sinusoidal", "damped", "triangle wave", "random", "learned")
MAPS = ("none", "commuting", "random", "trained")
SMALL, LARGE = 1e-6, 1e-2  # relative residual of a linear shift: holds, fails
TOEPLITZ = 1e-20  # share of the variance of scores that the offset leaves open: none, but for rounding
SPAN = 64  # positions whose scores are compared
DECAY = 0.002  # of the damped code, per token


@QUESTIONS.register("sinusoidal-relative-shift")
class SinusoidalRelativeShift(Question):
    """Fit one linear map for each shift to five codes; then look at scores of positions through four kinds of W_Q W_K^T."""

    topic = "positions"
    title = Text(
        en="In what sense do sinusoidal codes carry relative positions, and does attention preserve it?",
        zh="正弦编码在何种意义上包含相对位置？经过注意力的投影之后，这一性质还在吗？",
    )
    sources = (
        Source("002", "1.1(2)3)"),
        Source("002", "1.1(2)4)"),
        Source("002", "1.1(2)4)2"),
        Source("003", "II.4"),
    )
    claims = (
        Claim(
            "linear-shift",
            Text(
                en="The code of position pos + k follows from those of pos and k, so relative positions are expressed.",
                zh="位置 pos + k 的编码可由 pos 与 k 的编码得到，因此能表达相对位置。",
            ),
            Source("002", "1.1(2)3)"),
            note=Text(
                en="The paper says: by a linear map that depends on k alone.",
                zh="原论文的说法是：由只依赖 k 的线性映射得到。",
            ),
        ),
        Claim(
            "because-periodic",
            Text(
                en="It is because sine and cosine are periodic that pos + k can be computed from pos and k.",
                zh="正因为正弦和余弦是周期函数，才能由 pos 和 k 算出 pos + k。",
            ),
            Source("002", "1.1(2)4)2"),
            note=Text(en="The reason is the addition theorem.", zh="真正的原因是和角公式。"),
        ),
        Claim(
            "attention-sees-it",
            Text(
                en="Through these codes attention sees relative positions.",
                zh="借助这种编码，注意力看到的就是相对位置。",
            ),
            Source("003", "II.4"),
            note=Text(en="Between the codes lie W_Q and W_K.", zh="编码之间隔着 W_Q 和 W_K。"),
        ),
    )
    prediction = Text(
        en="A rotation by k w of each pair shifts the code exactly. The damped pair e^(-at) sin, e^(-at) cos is not periodic and shifts by a "
        "linear map too, while a periodic triangle wave has none: periodicity is not the reason. Scores of positions depend on the offset "
        "alone without projections, or with projections that commute with rotations; a random W_Q W_K^T destroys that, and training does "
        "not bring it back in full.",
        zh="每对分量旋转 kw 就能精确平移编码。阻尼的 e^(-at) sin、e^(-at) cos 不是周期函数，也有线性平移映射；周期的三角波却没有：周期性不是原因。"
        "没有投影，或投影与旋转可交换时，位置之间的打分只依赖位置差；随机的 W_Q W_K^T 会破坏这一点，训练也不能完全恢复。",
    )
    criterion = Text(
        en="Residuals are relative to the size of the code, the worst of the shifts 1, 7 and 100 over 2048 positions, with the best 2 x 2 map for each pair. "
        "linear-shift: supported if the sinusoidal residual is below 1e-6 and the known rotation is exact to 1e-10. because-periodic: "
        "refuted if the damped code is also below 1e-6 and the triangle wave above 0.01, else supported. attention-sees-it: depends if "
        "the offset explains all variance of scores but 1e-20 without projections and with commuting ones, and leaves more than 1 % open "
        "with random ones in every draw; supported if random ones keep it, refuted if commuting ones lose it.",
        zh="残差为相对值：对每对分量取最优的 2×2 映射，在 2048 个位置、平移 1、7、100 中取最大。线性平移：正弦编码残差低于 1e-6，且已知的旋转矩阵精确到 "
        "1e-10，则成立。因为周期：阻尼编码也低于 1e-6 而三角波高于 0.01，则不成立，否则成立。注意力：没有投影和投影可交换时，位置差解释了打分的全部"
        "方差（剩余不超过 1e-20），而随机投影每次都剩余 1% 以上，则视情况而定；随机投影也保持则成立；可交换投影也失去则不成立。",
    )
    parts = ("clearhead.model.position.sinusoidal:waves", "clearhead.model.attention.projections:Fused")
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.5",
        "Yan et al., 2019, arXiv:1911.04474, section 3 (TENER)",
        "Ke, He and Liu, 2021, arXiv:2006.15595 (TUPE)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        yield {"part": "rotation"}
        for code in CODES[:3]:
            yield {"part": "shift", "code": code, "updates": 0}
        for seed in scale.seeds(quick=2, full=5):
            yield {"part": "shift", "code": "random", "updates": 0, "seed": seed}
            yield {"part": "scores", "map": "random", "updates": 0, "seed": seed}
            yield {"part": "scores", "map": "commuting", "updates": 0, "seed": seed}
        yield {"part": "scores", "map": "none", "updates": 0}
        updates = scale.pick(quick=10, full=300)
        for seed in scale.seeds(quick=1, full=3):
            yield {"part": "shift", "code": "learned", "updates": updates, "seed": seed}
            yield {"part": "scores", "map": "trained", "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed, updates = int(cell.get("seed") or 0), int(cell.get("updates") or 0)
        if cell["part"] == "rotation":
            return [{"error": max(_rotation_error(shift) for shift in SHIFTS)}]
        if cell["part"] == "shift":
            table = _code(str(cell["code"]), updates, seed)
            shifts = [each for each in SHIFTS if each < len(table) // 2]
            return [{"positions": len(table), "residual": max(_residual(table, each) for each in shifts)}]
        scores = _scores(str(cell["map"]), updates, seed)
        open_, spread = _left_open(scores), scores.diagonal(offset=-8)  # keys 8 before their queries
        return [
            {"open": open_, "skew": _skew(scores)},
            *({"query": q + 8, "score": float(spread[q]) / float(scores.std())} for q in range(0, len(spread), 4)),
        ]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        residual = {each: rows.column("residual", code=each) for each in CODES}
        rotation = rows.one("error", part="rotation")
        linear = max(residual["sinusoidal"]) < SMALL and rotation < 1e-10
        other_reason = max(residual["damped"]) < SMALL and min(residual["triangle wave"]) > LARGE
        left = {each: rows.having("open").column("open", map=each) for each in MAPS}
        exact = max(*left["none"], *left["commuting"]) <= TOEPLITZ
        lost = min(left["random"]) > LARGE
        return {
            "linear-shift": Judgement(
                Verdict.SUPPORTED if linear else Verdict.REFUTED,
                Text(
                    en=f"Relative residual of the best linear map {max(residual['sinusoidal']):.1g}; the rotation itself is exact to "
                    f"{rotation:.1g} (float64). A random code leaves {min(residual['random']):.2g}.",
                    zh=f"最优线性映射的相对残差为 {max(residual['sinusoidal']):.1g}；旋转矩阵本身精确到 {rotation:.1g}（float64）。随机编码为 "
                    f"{min(residual['random']):.2g}。",
                ),
            ),
            "because-periodic": Judgement(
                Verdict.REFUTED if other_reason else Verdict.SUPPORTED,
                Text(
                    en=f"Residual of the damped code, not periodic: {max(residual['damped']):.1g}; of the triangle wave, periodic: "
                    f"{min(residual['triangle wave']):.2g}.",
                    zh=f"非周期的阻尼编码残差 {max(residual['damped']):.1g}；周期的三角波残差 {min(residual['triangle wave']):.2g}。",
                ),
            ),
            "attention-sees-it": Judgement(
                Verdict.REFUTED if not exact else Verdict.DEPENDS if lost else Verdict.SUPPORTED,
                Text(
                    en=f"Share of the variance of scores that the offset does not explain: {max(left['none']):.0e} without projections, "
                    f"{max(left['commuting']):.0e} with commuting ones, at least {min(left['random']):.0%} with random ones, "
                    f"{interval(left['trained']).mean:.0%} in a trained model.",
                    zh=f"位置差未能解释的打分方差：没有投影 {max(left['none']):.0e}，可交换的投影 {max(left['commuting']):.0e}，随机投影至少 "
                    f"{min(left['random']):.0%}，训练后的模型 {interval(left['trained']).mean:.0%}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        scores = rows.having("open")
        random, trained = (scores.mean("open", map=each) for each in ("random", "trained"))
        learned = rows.mean("residual", code="learned")
        straight, commuting = scores.mean("skew", map="none"), scores.mean("skew", map="commuting")
        return Answer(
            short=Text(
                en="For each shift k there is one matrix, a rotation of each pair of features by k times its frequency, that turns the code "
                "of any position into that of the position k later. But attention compares the codes through W_Q and W_K: with random "
                f"ones the offset fails to explain {random:.0%} of the variance of scores, in a model trained to look three tokens back still {trained:.0%}. "
                "So relative positions can be worked out from the codes, but attention does not get them for nothing.",
                zh="对每个平移 k，存在同一个矩阵（每对分量按 k 乘以频率旋转），能把任意位置的编码变成其后第 k 个位置的编码。但注意力是隔着 W_Q 和 W_K 比较编码的："
                f"投影随机时，位置差未能解释的打分方差占 {random:.0%}；在训练过回看三个词的模型中仍占 {trained:.0%}。所以相对位置可以从编码中推出来，但注意力不会白白得到它。",
            ),
            imprecise=Text(
                en="Periodicity is not the reason: a damped wave is not periodic and has the property, a triangle wave is periodic and does not "
                "have it. What counts is that shifts of the functions are linear combinations of them. Without projections the inner product is "
                f"also blind to direction (antisymmetric share {straight:.0e}); commuting projections can give it one ({commuting:.0%}).",
                zh="周期性不是原因：阻尼波不是周期函数却有此性质，三角波是周期函数却没有。关键在于平移后的函数是原函数的线性组合。没有投影时，内积还分不清方向"
                f"（反对称部分占 {straight:.0e}）；可交换的投影可以赋予方向（{commuting:.0%}）。",
            ),
            limits=Text(
                en=f"d = {WIDTH}, {LONGEST} positions; scores of {SPAN} positions, codes alone, without words and norm; of trained models, of width 32, the first "
                f"block is read, and training showed it only the first {SEEN} positions. Maps are 2 x 2 for each pair. The learned code is the table of such a model, {SEEN} rows; the residual of its best maps is {learned:.2g}.",
                zh=f"d = {WIDTH}，{LONGEST} 个位置；打分取 {SPAN} 个位置、只看编码、不含词和归一化；训练的模型宽 32，只看第一个块，且训练时只见过前 {SEEN} 个位置。映射为每对分量各一个 2×2 矩阵。可学习的编码取自这样的模型，共 {SEEN} 行，最优映射的"
                f"残差为 {learned:.2g}。",
            ),
            caption=Text(
                en="Left: what the best linear map of a shift leaves. Right: scores at the fixed offset 8; flat means that only the offset counts.",
                zh="左：平移的最优线性映射所剩残差。右：位置差固定为 8 时的打分，水平表示只与位置差有关。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (residuals, scores) = panels(2, width=4.8)
        bars(
            residuals, [each.replace(" ", "\n") for each in CODES], [rows.mean("residual", code=each) for each in CODES]
        )
        residuals.set_yscale("log")
        threshold(residuals, SMALL, "holds below")
        residuals.legend(fontsize=8)
        for place, each in enumerate(MAPS):
            shown = rows.where(map=each).having("score")
            if "seed" in shown[0]:
                shown = shown.where(seed=shown[0]["seed"])
            line(scores, shown.column("query"), shown.column("score"), f"W_Q W_K^T: {each}", place)
        scores.set_ylim(top=9)
        scores.legend(fontsize=7, ncols=2, loc="upper right")
        label(residuals, x="code", y="relative residual of the shift", title="is there a linear shift?")
        label(
            scores,
            x="position of the query (key 8 before it)",
            y="score / standard deviation",
            title="does only the offset count?",
        )
        return figure


def _angles(positions: Tensor) -> Tensor:
    frequency = BASE ** (-torch.arange(0, WIDTH, 2, dtype=torch.float64) / WIDTH)
    return positions[:, None] * frequency  # (positions, pairs)


def _pairs(left: Tensor, right: Tensor) -> Tensor:
    return torch.stack([left, right], dim=-1).flatten(1)


def _triangle(angle: Tensor) -> Tensor:
    """A wave of period 2 pi made of straight lines, between -1 and 1."""
    return 2 / math.pi * angle.sin().asin()


def _code(name: str, updates: int, seed: int) -> Tensor:
    """A code of positions, (positions, width) float64; features 2i and 2i + 1 are a pair."""
    at = torch.arange(LONGEST)
    angles = _angles(at)
    if name == "learned":
        model = learner("delay", {"position": "learned"}, updates, seed)
        rows = model.get_parameter("decoder.embedding_sum.position.table")[:SEEN]
        return rows.detach().double()
    made: dict[str, Callable[[], Tensor]] = {
        "sinusoidal": lambda: waves(at, WIDTH, BASE, "pairs"),
        "damped": lambda: waves(at, WIDTH, BASE, "pairs") * torch.exp(-DECAY * at.double())[:, None],
        "triangle wave": lambda: _pairs(_triangle(angles), _triangle(angles + math.pi / 2)),
        "random": lambda: torch.randn(
            LONGEST, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        ),
    }
    return made[name]()


def _residual(table: Tensor, shift: int) -> float:
    """What the best 2 x 2 map of each pair leaves of the shifted code, relative to it; the mean square over all pairs."""
    before, after = (part.view(len(part), -1, 2).transpose(0, 1) for part in (table[:-shift], table[shift:]))
    fitted = before @ torch.linalg.lstsq(before, after).solution  # (pairs, positions, 2)
    return float((fitted - after).norm() / after.norm())


def _rotation_error(shift: int) -> float:
    """How far the known rotation is from the shifted table."""
    table, angle = waves(torch.arange(LONGEST + shift), WIDTH, BASE, "pairs"), _angles(torch.tensor([shift]))
    sine, cosine = table[:LONGEST, 0::2], table[:LONGEST, 1::2]
    turned = _pairs(sine * angle.cos() + cosine * angle.sin(), cosine * angle.cos() - sine * angle.sin())
    return float((turned - table[shift:]).abs().max())


def _scores(kind: str, updates: int, seed: int) -> Tensor:
    """(queries, keys): scores of the codes of the first positions, through no or some W_Q W_K^T."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "trained":
        model = learner("delay", {"position": "sinusoidal", "heads": 1}, updates, seed)
        weight = model.get_parameter("decoder.blocks.0.attention.projections.weight").detach().double()
        query, key, _ = weight.chunk(3)  # row blocks of the fused projection
        code = waves(torch.arange(SPAN), query.shape[1], BASE, "pairs")
        trained: Tensor = code @ query.T @ key @ code.T
        return trained
    code = waves(torch.arange(SPAN), WIDTH, BASE, "pairs")
    bilinear: dict[str, Callable[[], Tensor]] = {
        "none": lambda: torch.eye(WIDTH).double(),
        "random": lambda: _random(generator),
        "commuting": lambda: _commuting(generator),
    }
    return code @ bilinear[kind]() @ code.T


def _random(generator: torch.Generator) -> Tensor:
    query, key = torch.randn(2, WIDTH, WIDTH, generator=generator, dtype=torch.float64)
    matrix: Tensor = query @ key.T / WIDTH
    return matrix


def _commuting(generator: torch.Generator) -> Tensor:
    """A random turn and stretch of each pair: what commutes with all rotations of the pairs."""
    turn, stretch = torch.randn(2, WIDTH // 2, generator=generator, dtype=torch.float64)
    blocks = [torch.tensor([[s, -t], [t, s]]) for s, t in zip(stretch.tolist(), turn.tolist(), strict=True)]
    matrix: Tensor = torch.block_diag(*blocks).double()  # type: ignore[no-untyped-call]
    return matrix


def _left_open(scores: Tensor) -> float:
    """The share of the variance of scores within diagonals, which the offset does not explain."""
    diagonals = [scores.diagonal(offset=each) for each in range(-SPAN + 1, SPAN)]
    within = sum(float((each - each.mean()).square().sum()) for each in diagonals)
    return within / float((scores - scores.mean()).square().sum())


def _skew(scores: Tensor) -> float:
    """How much of the scores changes sign with the direction, as a share of their squares."""
    return float(((scores - scores.T) / 2).square().sum() / scores.square().sum())
