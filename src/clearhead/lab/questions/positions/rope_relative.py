"""What does rotary position embedding rotate, and how far does it reach?"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.lab.parts.longer import SEEN, TEXTS, learner, read
from clearhead.lab.pictures import label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval
from clearhead.lab.training import build, decoder
from clearhead.model.position.rotary import Rotary
from clearhead.model.recorder import EVERYTHING, recording
from clearhead.model.transformer import Transformer

WIDTH, LENGTH, FARTHEST = 64, 24, 2000
EXACT, BROKEN = 1e-10, 1e-2  # relative changes of scores by a shift
WORSE, SAME = 0.1, 0.05  # nats that count as a loss of quality, and as none
BASES = (100.0, 1e4, 1e6)
OFFSETS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LENGTHS = (SEEN, 2 * SEEN, 4 * SEEN, 8 * SEEN)
STRETCHES = ("none", "linear", "ntk")
FORMS = ("shift", "complex", "matrix", "halves", "norm", "model", "value")


@QUESTIONS.register("rope-relative")
class RopeRelative(Question):
    """Shift all positions and compare scores; write the rotation in four ways; read texts longer than those learned."""

    topic = "positions"
    title = Text(
        en="What does rotary position embedding rotate, why do scores depend only on the offset, and does it suit long texts as it stands?",
        zh="旋转位置编码旋转的究竟是谁？为什么打分只与位置差有关？直接用于更长的序列可行吗？",
    )
    sources = (Source("000", "10"), Source("003", "I.10"))
    claims = (
        Claim(
            "relative",
            Text(
                en="Rotary encoding turns word embeddings by complex rotations and keeps relative position information.",
                zh="旋转编码用复数旋转矩阵调整词向量，并保留相对位置信息。",
            ),
            Source("000", "10"),
            note=Text(
                en="It turns queries and keys in every layer, not word embeddings and not values.",
                zh="它旋转的是每一层的查询和键，而不是词向量，也不是值。",
            ),
        ),
        Claim(
            "long",
            Text(en="It suits tasks with long sequences.", zh="它适合长序列任务。"),
            Source("000", "10"),
            note=Text(
                en="Whether longer than in training is not said; the published decay is that of an upper bound.",
                zh="没有说明是否比训练时更长；论文证明的衰减只是一个上界的衰减。",
            ),
        ),
    )
    prediction = Text(
        en="Turning queries and keys makes scores depend on the offset to rounding; turning embeddings before the projections does not. "
        "On texts twice as long as those learned the loss rises by more than 0.1 nats, since slow pairs reach angles never seen. "
        "Squeezing positions without further training repairs little here, because both tasks need exact distances.",
        zh="旋转查询和键后，打分只依赖位置差（误差仅为舍入）；若在投影之前旋转词向量则不然。文本比训练时长一倍时，损失会升高 0.1 奈特以上，因为低频分量转到了"
        "从未见过的角度。不再训练而仅压缩位置，在这里帮助不大，因为两个任务都需要精确的距离。",
    )
    criterion = Text(
        en="relative: depends if every form agrees and every shift changes scores by less than 1e-10 for turned queries and keys, while "
        "turned embeddings change by more than 0.01 (it is then true of queries and keys alone); supported if turned embeddings keep it too; "
        "refuted if the first part fails. long: refuted if at twice the length the loss rises by more than 0.1 nats on both tasks (lower "
        "end of the interval), supported if on both by less than 0.05 nats at twice and four times the length (upper end), depends if at "
        "some task and length it rises by more than 0.1 and at another by less than 0.05, else inconclusive.",
        zh="相对：各种写法一致，且旋转查询和键时平移引起的打分变化小于 1e-10，而旋转词向量时大于 0.01，则视情况而定（只对查询和键成立）；旋转词向量也满足则成立；"
        "前半不满足则不成立。长序列：长度为两倍时两个任务的损失都升高 0.1 奈特以上（区间下端）则不成立；两倍和四倍长度下两个任务都升高不到 0.05 奈特（区间上端）"
        "则成立；某个任务和长度下升高 0.1 以上、另一处不到 0.05，则视情况而定；否则尚无定论。",
    )
    parts = (
        "clearhead.model.position.rotary:Rotary",
        "clearhead.model.position.scaling:Linear",
        "clearhead.model.position.scaling:NTK",
    )
    references = (
        "Su et al., 2021, arXiv:2104.09864, sections 3.2 to 3.4",
        "Press, Smith and Lewis, 2022, arXiv:2108.12409, section 2",
        "Chen et al., 2023, arXiv:2306.15595 (position interpolation, followed by further training)",
        "Peng et al., 2023, arXiv:2309.00071, section 3.1 (NTK-aware interpolation)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=5):
            yield {"part": "exact", "shifts": scale.pick(quick=5, full=20), "seed": seed}
        for base in BASES:
            yield {"part": "decay", "base": base}
        updates = scale.pick(quick=10, full=300)
        for seed in scale.seeds(quick=1, full=6):
            for kind in TEXTS:
                yield {"part": "length", "task": kind, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell.get("seed") or 0)
        if cell["part"] == "exact":
            return [_exact(int(cell["shifts"] or 0), seed)]
        if cell["part"] == "decay":
            return _decay(float(cell["base"] or 0))
        return _lengths(str(cell["task"]), int(cell["updates"] or 0), seed)

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        exact = max(max(rows.column(each, part="exact")) for each in FORMS)
        early = min(rows.column("early", part="exact"))
        holds, only = exact < EXACT, early > BROKEN
        rises = {(kind, length): _rise(rows, kind, length) for kind in TEXTS for length in LENGTHS[1:]}
        far = {length: {kind: rises[kind, length] for kind in TEXTS} for length in LENGTHS[1:]}
        shown = {n: ", ".join(f"{kind} {rise}" for kind, rise in far[n].items()) for n in LENGTHS[1:3]}
        return {
            "relative": Judgement(
                Verdict.REFUTED if not holds else Verdict.DEPENDS if only else Verdict.SUPPORTED,
                Text(
                    en=f"Scores of turned queries and keys change by at most {exact:.1g} with a shift of all positions, and all ways to write "
                    f"the rotation agree; embeddings turned before the projections change scores by at least {early:.2g} (shares of the largest score).",
                    zh=f"旋转查询和键时，整体平移位置引起的打分变化以及各种写法之间的差别不超过 {exact:.1g}；在投影之前旋转词向量时，打分变化不低于 {early:.2g}（均相对于最大的打分）。",
                ),
            ),
            "long": Judgement(
                _reach(rises),
                Text(
                    en=f"Rise of the loss in nats at {2 * SEEN} tokens: {shown[2 * SEEN]}; at {4 * SEEN}: {shown[4 * SEEN]} (learned: {SEEN}).",
                    zh=f"损失的升高（奈特），{2 * SEEN} 个词：{shown[2 * SEEN]}；{4 * SEEN} 个词：{shown[4 * SEEN]}（训练长度 {SEEN}）。".replace(
                        "], ", "]，"
                    ),
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        double, eight = ({kind: _rise(rows, kind, n * SEEN).mean for kind in TEXTS} for n in (2, 8))
        squeezed = {kind: _rise(rows, kind, 2 * SEEN, "linear").mean for kind in TEXTS}
        plain, ntk = ({kind: _rise(rows, kind, 4 * SEEN, each).mean for kind in TEXTS} for each in ("none", "ntk"))
        random = [rows.one("random", part="decay", base=1e4, offset=each) for each in (0, OFFSETS[-1])]
        alike = [rows.one("alike", part="decay", base=1e4, offset=each) for each in (0, OFFSETS[-1])]
        return Answer(
            short=Text(
                en="Queries and keys of every layer are turned, pair of features by pair, by an angle in proportion to their position. Turning "
                "both by the same angle more leaves their product as it is, so a score knows the offset only; values and embeddings are not turned. "
                f"How far a model reads on is another matter: with {2 * SEEN} tokens in place of the {SEEN} it learned, the loss changes by "
                f"{double['markov']:+.2f} nats (Markov text) and {double['delay']:+.2f} nats (token three back), with {8 * SEEN} tokens by "
                f"{eight['markov']:+.2f} and {eight['delay']:+.2f}. At {4 * SEEN} tokens it changes by {plain['markov']:+.2f} and {plain['delay']:+.2f} as it stands, by "
                f"{ntk['markov']:+.2f} and {ntk['delay']:+.2f} if mainly the slow pairs are slowed down further (NTK).",
                zh="每一层的查询和键都按位置成比例地逐对旋转。两者再多转同样的角度，内积不变，所以打分只知道位置差；值和词向量都不旋转。"
                f"能否读得更远则是另一回事：训练长度为 {SEEN}，读 {2 * SEEN} 个词时损失变化 {double['markov']:+.2f} 奈特（马尔可夫文本）和 {double['delay']:+.2f} 奈特"
                f"（回看三个词），读 {8 * SEEN} 个词时变化 {eight['markov']:+.2f} 和 {eight['delay']:+.2f}。读 {4 * SEEN} 个词时，"
                f"原样变化 {plain['markov']:+.2f} 和 {plain['delay']:+.2f}，主要放慢低频分量（NTK）则为 {ntk['markov']:+.2f} 和 {ntk['delay']:+.2f}。",
            ),
            imprecise=Text(
                en="The method turns queries and keys, not word embeddings: turned before the projections, positions do not cancel. And "
                f"the decay with distance is that of a bound, or of a vector with itself ({alike[0]:.2f} at offset 0, {alike[1]:.2f} at "
                f"{OFFSETS[-1]}); the product of random vectors is as large far away as near ({random[0]:.2f} and {random[1]:.2f}). Squeezing the positions of a doubled text into "
                f"the learned range, without further training, changes the loss by {squeezed['markov']:+.2f} and {squeezed['delay']:+.2f} nats.",
                zh="旋转的是查询和键，而非词向量：在投影之前旋转，位置就无法抵消。随距离衰减的是一个上界，或某个向量与自身的内积"
                f"（位置差 0 时 {alike[0]:.2f}，{OFFSETS[-1]} 时 {alike[1]:.2f}）；随机向量的内积在远处与近处一样大（{random[0]:.2f} 与 {random[1]:.2f}）。"
                f"把两倍长文本的位置压缩进训练范围而不再训练，损失变化 {squeezed['markov']:+.2f} 和 {squeezed['delay']:+.2f} 奈特。",
            ),
            limits=Text(
                en=f"2 layers of width 32 with heads of 8 features, texts of {SEEN} tokens, {len(rows.where(part='length').distinct('seed'))} seed(s), "
                "two tasks that need near tokens only. Position interpolation as published trains further after stretching; that was not done.",
                zh=f"两层、宽度 32、每头 8 维，训练文本 {SEEN} 个词，{len(rows.where(part='length').distinct('seed'))} 个随机种子，两个任务都只需近处的词。"
                "论文中的位置内插在拉伸之后会继续训练，这里没有做。",
            ),
            caption=Text(
                en="Left: the published bound for three bases, and the product of a vector with itself. Middle and right: rise of the loss beyond the learned length, plain and stretched.",
                zh="左：三种底数下论文的上界，以及向量与自身的内积。中、右：超出训练长度时损失的升高，原样与拉伸之后。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (decay, *lengths) = panels(1 + len(TEXTS), width=3.9, height=3.6)
        for place, base in enumerate(BASES):
            found = rows.where(part="decay", base=base)
            line(decay, OFFSETS, found.column("bound"), f"bound, base {base:g}", place)
        line(decay, OFFSETS, rows.where(base=1e4).column("alike"), "vector with itself, 1e4", 3)
        line(decay, OFFSETS, rows.where(base=1e4).column("random"), "random vectors, 1e4", 4)
        decay.set_xscale("symlog", base=2, linthresh=1)
        decay.set_yscale("log")
        decay.legend(fontsize=7)
        label(decay, x="offset (tokens)", y="size, relative to offset 0 or typical score", title="decay")
        for axes, kind in zip(lengths, TEXTS, strict=True):
            for place, each in enumerate(STRETCHES):
                name = "plain" if each == "none" else f"{each} stretch"
                line(axes, LENGTHS, [_rise(rows, kind, n, each) for n in LENGTHS], name, place)
            threshold(axes, WORSE, "counts as worse")
            axes.set_xscale("log", base=2)
            axes.set_xticks(LENGTHS, [str(each) for each in LENGTHS])
            axes.legend(fontsize=7)
            label(
                axes,
                x="tokens of a text",
                y="rise of the loss (nats per token)",
                title=f"{kind}, learned with {SEEN} tokens",
            )
        return figure


def _exact(shifts: int, seed: int) -> Row:
    """Relative errors, float64: of scores by shifts, between ways to write the rotation, of norms, of values."""
    generator = torch.Generator().manual_seed(seed)
    query, key, words = torch.randn(3, 1, 1, LENGTH, WIDTH, generator=generator, dtype=torch.float64)
    here = torch.arange(LENGTH)[None]
    by_pairs, by_halves = (Rotary(WIDTH, 1, WIDTH, LENGTH, layout=each) for each in ("pairs", "halves"))
    plain, maps = (
        _scores(by_pairs, query, key, here),
        torch.randn(2, WIDTH, WIDTH, generator=generator).double() / WIDTH**0.5,
    )
    early = _early(by_pairs, words, maps, here)
    found = {"shift": 0.0, "early": 0.0}
    for shift in torch.randint(1, FARTHEST, (shifts,), generator=generator).tolist():
        found["shift"] = max(found["shift"], _apart(_scores(by_pairs, query, key, here + shift), plain))
        found["early"] = max(found["early"], _apart(_early(by_pairs, words, maps, here + shift), early))
    turned = _turned(by_pairs, query, here)
    order = torch.cat([torch.arange(0, WIDTH, 2), torch.arange(1, WIDTH, 2)])  # pairs to halves
    model, value = _model(seed)
    return {
        **found,
        "complex": _apart(turned, _complex(query)),
        "matrix": _apart(turned, _matrix(query)),
        "halves": _apart(turned[..., order], _turned(by_halves, query[..., order], here)),
        "norm": _apart(turned.norm(dim=-1), query.norm(dim=-1)),
        "model": model,
        "value": value,
    }


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def _turned(rotary: Rotary, states: Tensor, positions: Tensor) -> Tensor:
    return rotary.rotate(states, rotary.turns(positions, states.dtype))


def _scores(rotary: Rotary, query: Tensor, key: Tensor, positions: Tensor) -> Tensor:
    return _turned(rotary, query, positions) @ _turned(rotary, key, positions).mT


def _early(rotary: Rotary, words: Tensor, maps: Tensor, positions: Tensor) -> Tensor:
    """The wrong place: embeddings are turned, then projected to queries and keys."""
    turned = _turned(rotary, words, positions)
    return (turned @ maps[0]) @ (turned @ maps[1]).mT


def _angles() -> Tensor:
    frequency = 1e4 ** (-torch.arange(0, WIDTH, 2, dtype=torch.float64) / WIDTH)
    return torch.arange(LENGTH)[:, None] * frequency  # (length, width / 2)


def _complex(states: Tensor) -> Tensor:
    """Each pair as a complex number times exp(i angle)."""
    numbers = torch.view_as_complex(states.reshape(*states.shape[:-1], -1, 2))
    return torch.view_as_real(numbers * torch.polar(torch.ones_like(_angles()), _angles())).flatten(-2)


def _matrix(states: Tensor) -> Tensor:
    """Each vector times a matrix of 2 x 2 rotations."""
    angle = _angles()
    blocks = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1).view(LENGTH, -1, 2, 2)
    matrices = torch.stack([torch.block_diag(*each) for each in blocks])  # type: ignore[no-untyped-call]  # (length, width, width)
    return (matrices @ states[..., None]).squeeze(-1)


@torch.no_grad()
def _model(seed: int) -> tuple[float, float]:
    """What a shift of all positions changes in a whole model's output, and in the values of its first block."""
    model = build(decoder(17, {"position": "rope"}), seed).double().eval()
    tokens = torch.randint(1, 17, (2, LENGTH), generator=torch.Generator().manual_seed(seed))
    outputs, values = [], []
    for shift in (0, FARTHEST):
        with recording(model, EVERYTHING) as record:
            outputs.append(model.decode(tokens, positions=torch.arange(LENGTH)[None] + shift))
        values.append(record["decoder.blocks.0.attention.values"])
    return _apart(outputs[1], outputs[0]), _apart(values[1], values[0])


def _decay(base: float) -> Iterable[Row]:
    """The bound of Su et al. relative to offset 0, the product of a vector with itself, the mean product of random vectors."""
    rotary = Rotary(WIDTH, 1, WIDTH, 1, base=base, layout="pairs")
    frequency = base ** (-torch.arange(0, WIDTH, 2, dtype=torch.float64) / WIDTH)
    states = torch.randn(2, 1, 1, 1000, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for offset in OFFSETS:
        angles = offset * frequency
        sums = torch.polar(torch.ones_like(angles), angles).cumsum(0).abs()
        most = torch.arange(1, len(angles) + 1, dtype=torch.float64)
        key = _turned(rotary, states[1], torch.full((1, 1000), offset))
        yield {
            "offset": offset,
            "bound": float(sums.mean() / most.mean()),
            "alike": float(angles.cos().mean()),
            "random": float((states[0] * key).sum(dim=-1).abs().mean()) / WIDTH**0.5,
        }


def _lengths(kind: str, updates: int, seed: int) -> Iterable[Row]:
    """Losses on longer texts, as trained and with stretched positions."""
    model = learner(kind, {"position": "rope"}, updates, seed)
    for stretch in STRETCHES:
        for length in LENGTHS:
            yield {
                "stretch": stretch,
                "length": length,
                "loss": read(_stretched(model, stretch, length), kind, length, seed).loss,
            }


def _stretched(model: Transformer, stretch: str, length: int) -> Transformer:
    """The same weights with other frequencies."""
    if stretch == "none" or length == SEEN:
        return model
    scaling = {"kind": stretch, "factor": length / SEEN}
    position = {"kind": "rope", "scaling": scaling}
    other = Transformer(type(model.config).model_validate({**model.config.model_dump(), "position": position}))
    other.load_state_dict(model.state_dict())
    return other.eval()


def _rise(rows: Rows, kind: str, length: int, stretch: str = "none") -> Interval:
    """Loss at this length minus that at the learned one, over seeds."""
    found = rows.where(part="length", task=kind, stretch=stretch)
    return interval(found.paired("loss", {"length": length}, {"length": SEEN}))


def _reach(rises: Mapping[tuple[str, int], Interval]) -> Verdict:
    double: Sequence[Interval] = [rise for (_, length), rise in rises.items() if length == 2 * SEEN]
    both = [rise for (_, length), rise in rises.items() if length <= 4 * SEEN]
    if all(each.low > WORSE for each in double):
        return Verdict.REFUTED
    if all(each.high < SAME for each in both):
        return Verdict.SUPPORTED
    mixed = any(each.low > WORSE for each in rises.values()) and any(each.high < SAME for each in rises.values())
    return Verdict.DEPENDS if mixed else Verdict.INCONCLUSIVE
