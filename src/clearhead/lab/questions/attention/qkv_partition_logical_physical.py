"""Which split of the Q, K, V layer is separate storage, and which only a view?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call

from clearhead.lab.parts.attend import Attend
from clearhead.lab.pictures import COLOURS, label, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.model import OPEN
from clearhead.model.attention import HeadSizes
from clearhead.model.attention.layouts import (
    from_fused,
    to_heads,
    to_interleaved,
)
from clearhead.model.position.base import UNRELATED

WIDTH, HEADS, LENGTH = 256, 8, 128
SIZES = HeadSizes(d_model=WIDTH, heads=HEADS, kv_heads=HEADS, d_head=WIDTH // HEADS)
SAME, OTHER = 1e-10, 1e-2  # relative differences in float64: equal, and surely not
NAMES = ("query", "key", "value")


@QUESTIONS.register("qkv-partition-logical-physical")
class QkvPartitionLogicalPhysical(Question):
    """The same weights as 24 small matrices, three, one in blocks and one interleaved by head."""

    topic = "attention"
    title = Text(
        en="One linear layer makes Q, K and V of all heads: which split is physical, which only logical?",
        zh="一个线性层算出所有头的 Q、K、V 时，哪些划分是物理上的，哪些只是逻辑上的？",
    )
    sources = (Source("003", "IV.11"), Source("003", "V.6"))
    claims = (
        Claim(
            "views",
            Text(
                en="The split by head is logical: it differs from how the weights lie in memory.",
                zh="按头的划分只是逻辑上的，与权重在内存中的物理布局不同。",
            ),
            Source("003", "IV.11"),
            note=Text(
                en="A premise. Libraries lay the rows out in different orders.",
                zh="这是隐含的前提。不同的库对行的排列顺序不同。",
            ),
        ),
    )
    prediction = Text(
        en="All four layouts give the same output and the same gradients to rounding. Blocks of a head are views of "
        "the one weight and each head's gradient stays in its own rows. Rows read in the wrong order give another "
        "output without any error, and a fused matrix starts sqrt(2) times smaller.",
        zh="四种布局的输出与梯度只差舍入误差。各头的块是同一权重的视图，每个头的梯度只落在自己的行里。按错误的顺序读"
        "取这些行，输出会不同却不报错；融合矩阵的初始值小 √2 倍。",
    )
    criterion = Text(
        en="Supported if in every run all layouts agree to 1e-10 of the size in float64, output and gradients, "
        "every block of a head shares the storage of the fused weight, a head's gradient outside its rows is "
        "exactly 0, and the interleaved rows read as blocks change the output by more than 1e-2; else refuted.",
        zh="每次运行中，所有布局的输出与梯度在 float64 中相差不超过其大小的 1e-10，每个头的块都与融合权重共用存储，头的"
        "梯度在自己的行以外恰为 0，且把交错的行当作分块读取时输出变化超过 1e-2，则成立；否则不成立。",
    )
    parts = (
        "clearhead.model.attention.projections:Fused",
        "clearhead.model.attention.separate:Separate",
        "clearhead.model.attention.layouts:to_interleaved",
    )
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2.2",
        "PyTorch documentation of torch.nn.MultiheadAttention (in_proj_weight)",
        "Shoeybi et al., 2019, arXiv:1909.08053, section 3 (heads split over devices: a physical partition)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=5):
            yield {"seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        layer = Attend(WIDTH, HEADS, seed=seed).double()
        generator = torch.Generator().manual_seed(seed)
        hidden, above = torch.randn(2, 2, LENGTH, WIDTH, generator=generator, dtype=torch.float64)
        expected = _run("one, in blocks", layer, hidden, above)
        for name in LAYOUTS:
            found = _run(name, layer, hidden, above)
            difference = max(_relative(a, b) for a, b in zip(found, expected, strict=True))
            yield {"layout": name, "difference": difference, "tensors": _tensors(name, layer)}
        yield {
            "shared": _shared(layer),
            "outside": _outside(layer, hidden),
            "copied": _copied(layer, hidden),
            **{f"deviation_{kind}": _deviation(kind, seed) for kind in ("fused", "separate")},
        }

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        worst = max(max(rows.column("difference", layout=name)) for name in RIGHT)
        wrong = min(rows.column("difference", layout=WRONG))
        shared, outside = min(rows.column("shared")), max(rows.column("outside"))
        holds = worst <= SAME and shared == 1 and outside == 0 and wrong > OTHER
        return {
            "views": Judgement(
                Verdict.SUPPORTED if holds else Verdict.REFUTED,
                Text(
                    en=f"Layouts differ by {worst:.1g}; {shared:.0%} of the blocks of heads share the storage of "
                    f"the one weight; a head's gradient outside its rows is {outside:.1g}; rows read in the wrong "
                    f"order change the output by {wrong:.0%}.",
                    zh=f"各布局相差 {worst:.1g}；{shared:.0%} 的头块与同一权重共用存储；头的梯度在自己的行以外为 "
                    f"{outside:.1g}；按错误顺序读取行，输出变化 {wrong:.0%}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        fused, separate = (rows.mean(f"deviation_{each}") for each in ("fused", "separate"))
        return Answer(
            short=Text(
                en=f"One matrix with 3 d_model rows, three with d_model rows and 3 h with d_k rows are the same "
                f"function: the rows of a head are a view, no number moves. Only separate parameters, or weights on "
                f"separate devices, are a physical split. The order of the rows is a convention of a library: "
                f"blocks read as interleaved rows change the output by {rows.mean('difference', layout=WRONG):.0%} "
                f"and raise no error.",
                zh=f"一个 3d_model 行的矩阵、三个 d_model 行的矩阵、3h 个 d_k 行的矩阵是同一个函数：某个头的行只是视"
                f"图，不移动任何数字。只有分开的参数、或放在不同设备上的权重，才是物理划分。行的顺序由各库自行约定：把"
                f"交错排列的行当作分块来读，输出变化 {rows.mean('difference', layout=WRONG):.0%}，却不会报错。",
            ),
            imprecise=Text(
                en=f"What is not the same is the start: Glorot's rule sees other sizes, so the weights begin with "
                f"deviation {fused:.4f} in one matrix and {separate:.4f} in a matrix of its own for each of Q, K "
                f"and V. And cutting Q, K and V into heads is a view too; {rows.mean('copied'):.0f} of 3 are copied.",
                zh=f"不同之处在于初始化：Glorot 规则看到的尺寸不同，融合矩阵的初始标准差为 {fused:.4f}，Q、K、V 各用一"
                f"个矩阵时为 {separate:.4f}。把 Q、K、V 切成头同样只是视图，三者中有 {rows.mean('copied'):.0f} 个被复"
                f"制。",
            ),
            limits=Text(
                en=f"Width {WIDTH}, {HEADS} heads, {len(rows.distinct('seed'))} seeds, in one process; speed and "
                f"splits over devices were not measured.",
                zh=f"宽度 {WIDTH}，{HEADS} 个头，{len(rows.distinct('seed'))} 个种子，单进程；未测量速度，也未测量跨"
                f"设备划分。",
            ),
            caption=Text(
                en="Which rows of one weight belong to which head, in two layouts of the same size; numbers are heads.",
                zh="同样大小的一个权重中，哪些行属于哪个头的两种布局；数字为头的编号。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, axes = panels(2, height=3.8)
        owners = torch.arange(3).repeat_interleave(HEADS), torch.arange(HEADS).repeat(3)  # of a block: Q, K or V; head
        for each, order in zip(
            axes, (torch.arange(3 * HEADS), torch.arange(3 * HEADS).view(3, HEADS).T.flatten()), strict=True
        ):
            for place, block in enumerate(order.tolist()):
                what, head = int(owners[0][block]), int(owners[1][block])
                each.barh(place, 1, height=0.92, color=COLOURS[what], label=NAMES[what] if head == 0 else None)
                each.text(0.5, place, str(head + 1), ha="center", va="center", fontsize=6, color="white")
            each.set_xticks([])
            each.set_yticks([0, 8, 16, 24], [str(row * SIZES.d_head) for row in (0, 8, 16, 24)])
            each.set_ylim(24, -0.5)
        axes[0].legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.1), ncols=3)
        label(axes[0], x="", y="row of the weight", title="blocks: this package, torch")
        label(
            axes[1],
            x=f"misread as blocks: {rows.mean('difference', layout=WRONG):.0%} off",
            y="",
            title="interleaved: GPT-NeoX, BLOOM",
        )
        return figure


def _blocks(layer: Attend, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return layer.projections.all(hidden)


def _three(layer: Attend, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The package's three matrices, given the rows of the one."""
    rows = from_fused(_weight(layer), SIZES)
    state = {f"{name}.weight": each for name, each in zip(NAMES, rows, strict=True)}
    separate = Attend(WIDTH, HEADS, projections="separate").projections
    made = functional_call(_All(separate), {f"projections.{name}": each for name, each in state.items()}, (hidden,))
    return made[0], made[1], made[2]


class _All(nn.Module):
    """Projections as a module that can be called."""

    def __init__(self, projections: nn.Module) -> None:
        super().__init__()
        self.projections = projections

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        made: tuple[Tensor, Tensor, Tensor] = self.projections.all(hidden)  # type: ignore[operator]
        return made


def _small(layer: Attend, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A product for each head of each of Q, K and V."""
    heads = to_heads(from_fused(_weight(layer), SIZES), SIZES)
    query, key, value = (torch.stack([hidden @ each.T for each in matrices], dim=1) for matrices in heads)
    return query, key, value


def _interleaved(layer: Attend, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One matrix with the three parts of a head side by side, as it lies in other checkpoints."""
    weight = to_interleaved(from_fused(_weight(layer), SIZES), SIZES)
    made = (hidden @ weight.T).view(*hidden.shape[:2], HEADS, 3, SIZES.d_head)  # (batch, length, heads, 3, d_head)
    query, key, value = made.permute(3, 0, 2, 1, 4)
    return query, key, value


def _misread(layer: Attend, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The interleaved matrix taken for one in blocks: the shapes fit, nothing complains."""
    weight = to_interleaved(from_fused(_weight(layer), SIZES), SIZES)
    made = functional_call(_All(layer.projections), {"projections.weight": weight}, (hidden,))
    return made[0], made[1], made[2]


WRONG = "interleaved, misread"
LAYOUTS = {
    "24 small matrices": _small,
    "three matrices": _three,
    "one, in blocks": _blocks,
    "one, interleaved": _interleaved,
    WRONG: _misread,
}
RIGHT = tuple(each for each in LAYOUTS if each != WRONG)
SPLIT = {"24 small matrices": 3 * HEADS, "three matrices": 3}  # parameters that such a module would hold


def _weight(layer: Attend) -> Tensor:
    """The one parameter of the projections, (3 * d_model, d_model)."""
    (weight,) = layer.projections.parameters()
    return weight


def _tensors(name: str, layer: Attend) -> int:
    return SPLIT.get(name, len(list(layer.projections.parameters())))


def _run(name: str, layer: Attend, hidden: Tensor, above: Tensor) -> list[Tensor]:
    """Output, gradient of the input and of the weight, whose rows are in the order of blocks."""
    asked = hidden.clone().requires_grad_()
    output = layer.merge(layer.kernel(*LAYOUTS[name](layer, asked), OPEN, UNRELATED))
    return [output.detach(), *torch.autograd.grad(output, (asked, _weight(layer)), above)]


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def _shared(layer: Attend) -> float:
    """The share of the blocks of heads that lie in the storage of the one weight."""
    weight = _weight(layer)
    heads = [each for part in to_heads(from_fused(weight, SIZES), SIZES) for each in part]
    home = weight.untyped_storage().data_ptr()
    return sum(float(each.untyped_storage().data_ptr() == home) for each in heads) / len(heads)


def _outside(layer: Attend, hidden: Tensor) -> float:
    """The largest gradient in rows of other heads when only one head's result is asked for."""
    worst = 0.0
    for head in range(HEADS):
        mixed = layer.kernel(*layer.projections.all(hidden), OPEN, UNRELATED)[:, head]
        (gradient,) = torch.autograd.grad(mixed.square().sum(), _weight(layer))
        heads = torch.stack(to_heads(from_fused(gradient, SIZES), SIZES))  # (3, heads, d_head, d_model)
        worst = max(worst, float(heads[:, [each for each in range(HEADS) if each != head]].abs().max()))
    return worst


@torch.no_grad()
def _copied(layer: Attend, hidden: Tensor) -> int:
    """How many of queries, keys and values do not lie in the storage of one product."""
    made = layer.projections.all(hidden)
    return sum(each.untyped_storage().data_ptr() != made[0].untyped_storage().data_ptr() for each in made)


def _deviation(kind: str, seed: int) -> float:
    """What Glorot's rule makes of W_Q when it sees one matrix, or W_Q by itself."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weight = nn.init.xavier_uniform_(torch.empty(3 * WIDTH if kind == "fused" else WIDTH, WIDTH))
    return float(weight[:WIDTH].std())
