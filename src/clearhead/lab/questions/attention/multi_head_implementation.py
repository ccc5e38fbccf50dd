"""How is multi-head attention implemented, and what may be rearranged?"""

from collections.abc import Callable, Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call

from clearhead.lab.parts.attend import Attend
from clearhead.lab.pictures import COLOURS, label, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.model import AttentionMask
from clearhead.model.attention import HeadSizes
from clearhead.model.attention.layouts import from_fused, from_heads, to_fused, to_heads

BATCH, LENGTH, WIDTH, HEADS = 3, 11, 64, 8
SIZES = HeadSizes(d_model=WIDTH, heads=HEADS, kv_heads=HEADS, d_head=WIDTH // HEADS)
SAME = {
    "float64": 1e-10,
    "float32": 1e-5,
}  # largest difference of what should be equal, in shares of the largest number
OTHER = 1e-2  # a difference above this changes the result

Weights = Mapping[str, Tensor]  # by the names they have in the package's layer
Way = Callable[[Weights, Tensor, Tensor], Tensor]  # weights, input, scores to add -> output


@QUESTIONS.register("multi-head-implementation")
class MultiHeadImplementation(Question):
    """One layer's weights in several programs; outputs and gradients compared."""

    topic = "attention"
    title = Text(
        en="How is multi-head attention implemented, and which rearrangements leave the result unchanged?",
        zh="多头注意力怎样实现？哪些重排不会改变结果？",
    )
    sources = (Source("003", "IV.22"), Source("002", "1.2"))
    claims = (
        Claim(
            "own",
            Text(
                en="Each head has its own W_Q, W_K and W_V and yields its own result Z; the Z are joined.",
                zh="每个头有各自的 W_Q、W_K、W_V，得到各自的结果 Z，再把所有 Z 拼接起来。",
            ),
            Source("002", "1.2"),
        ),
        Claim(
            "joined",
            Text(en="The joined Z are the output of the layer.", zh="拼接后的 Z 就是这一层的输出。"),
            Source("002", "1.2"),
            note=Text(en="The paper multiplies them by W_O.", zh="原论文还要乘以 W_O。"),
        ),
        Claim(
            "definite",
            Text(
                en="There is one definite computation that an implementation can be checked against.",
                zh="存在唯一确定的计算，任何实现都可以据此检验。",
            ),
            Source("003", "IV.22"),
            note=Text(en="A premise of the question.", zh="这是提问中隐含的前提。"),
        ),
    )
    prediction = Text(
        en="A loop over heads, einsum, three matrices, one fused matrix and torch's module differ by rounding only. "
        "Renumbering heads with the columns of W_O, and summing Z_h W_O[h] instead of joining, change nothing; "
        "without W_O the output is another one and no head reaches features of another.",
        zh="逐头循环、einsum、三个矩阵、一个融合矩阵与 torch 自带模块只相差舍入误差。头与 W_O 的列一起重新编号，"
        "或用各头 Z_h W_O[h] 之和代替拼接，都不改变结果；去掉 W_O 则输出不同，且任何头都影响不到其他头的特征。",
    )
    criterion = Text(
        en="own and definite: supported if outputs and the gradients of input and weights agree to 1e-10 in float64 "
        "and 1e-5 in float32, for a random mask of yes and no and for one of added scores; own needs the loop over "
        "heads alone, definite all ways. joined: refuted if leaving W_O out changes the output by more than 1e-2. "
        "Else the opposite.",
        zh="own 与 definite：在布尔掩码和加性掩码下，输出以及对输入和权重的梯度，其差与最大值之比在 float64 中不超过"
        " 1e-10、在 float32 中不超过 1e-5，则成立；own 只看逐头循环，definite 看全部写法。joined：去掉 W_O 使输出变"
        "化超过 1e-2，则不成立。否则相反。",
    )
    parts = (
        "clearhead.model.attention.multihead:MultiHead",
        "clearhead.model.attention.projections:Fused",
        "clearhead.model.attention.layouts:to_heads",
    )
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2.2",
        "Elhage et al., 2021, A Mathematical Framework for Transformer Circuits (heads as terms of a sum)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=5):
            for dtype in SAME:
                for mask in ("yes or no", "added"):
                    yield {"dtype": dtype, "mask": mask, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        dtype, seed = getattr(torch, str(cell["dtype"])), int(cell["seed"] or 0)
        weights = _weights(seed, dtype)
        generator = torch.Generator().manual_seed(seed)
        hidden = torch.randn(BATCH, LENGTH, WIDTH, generator=generator, dtype=dtype)
        above = torch.randn(BATCH, LENGTH, WIDTH, generator=generator, dtype=dtype)
        added = _scores(str(cell["mask"]), generator).to(dtype)
        expected = _run(_package, weights, hidden, added, above)
        for name, way in {**EQUAL, **OTHERS}.items():
            found = _run(way, weights, hidden, added, above)
            differences = [float((a - b).abs().max() / a.abs().max()) for a, b in zip(expected, found, strict=True)]
            yield {"way": name, "output": differences[0], "gradients": max(differences[1:])}

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        worst = {name: _excess(rows, name) for name in EQUAL}
        loop, every = worst["loop over heads"], max(worst.values())
        without = min(rows.column("output", way="without W_O"))
        largest = max(
            max(rows.column(each, dtype="float64", way=name)) for name in EQUAL for each in ("output", "gradients")
        )
        return {
            "own": Judgement(
                Verdict.SUPPORTED if loop <= 1 else Verdict.REFUTED,
                Text(
                    en=f"The loop over heads differs by at most {loop:.1%} of what the tolerances allow.",
                    zh=f"逐头循环的差别至多为容差的 {loop:.1%}。",
                ),
            ),
            "joined": Judgement(
                Verdict.REFUTED if without > OTHER else Verdict.SUPPORTED,
                Text(
                    en=f"Without W_O some output changes, in every run, by at least {without:.2g} times the largest one.",
                    zh=f"去掉 W_O 后，每次运行中输出的最大变化都不小于最大输出的 {without:.2g} 倍。",
                ),
            ),
            "definite": Judgement(
                Verdict.SUPPORTED if every <= 1 else Verdict.REFUTED,
                Text(
                    en=f"{len(EQUAL)} ways to write it differ by at most {largest:.1g} in float64, gradients included.",
                    zh=f"{len(EQUAL)} 种写法在 float64 中最多相差 {largest:.1g}，梯度也计算在内。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        same = [name for name in EQUAL if _excess(rows, name) <= 1]
        other = [name for name in CHINESE if name not in same]
        return Answer(
            short=Text(
                en=f"Project the stream to queries, keys and values; cut each into heads; let each head mix its "
                f"values; join the results and multiply by W_O. The same result up to rounding: {'; '.join(same)}. "
                f"A different result: {'; '.join(other)}.",
                zh=f"先把输入投影成查询、键、值，各自切分成头；每个头混合自己的值；拼接后再乘以 W_O。结果相同（仅差"
                f"舍入）：{'、'.join(CHINESE[each] for each in same)}。结果不同："
                f"{'、'.join(CHINESE[each] for each in other)}。",
            ),
            imprecise=Text(
                en="W_O was left out. Joining and then multiplying by W_O is a sum over heads, each with its own "
                "columns of W_O; that is where what the heads found enters the same features. The number of a head "
                "means nothing.",
                zh="原说法漏掉了 W_O。拼接后乘以 W_O，等于各头用 W_O 中各自的列相乘再求和，各头的结果正是在这里进入相"
                "同的特征。头的编号没有意义。",
            ),
            limits=Text(
                en=f"Checked by numbers, not by proof: width {WIDTH}, {HEADS} heads, {len(rows.distinct('seed'))} "
                f"seeds, random weights, no dropout.",
                zh=f"这是数值检验而非证明：宽度 {WIDTH}，{HEADS} 个头，{len(rows.distinct('seed'))} 个种子，随机权重"
                f"，无 dropout。",
            ),
            caption=Text(
                en="Largest difference from the package's layer, in float64. Left of the dashed line: the same "
                "function.",
                zh="与本库注意力层的最大差别（float64）。虚线左侧为同一函数。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (axes,) = panels(1, width=6.5)
        for place, name in enumerate(reversed(CHINESE)):
            for column, marker, colour in (("output", "o", COLOURS[0]), ("gradients", "s", COLOURS[1])):
                value = max(*rows.column(column, dtype="float64", way=name), 1e-17)
                axes.plot(value, place, marker, color=colour, label=column if place == 0 else None)
        axes.axvline(SAME["float64"], color="#555555", linestyle="--", linewidth=1.2, label="tolerance")
        axes.set_yticks(range(len(CHINESE)), list(reversed(CHINESE)))
        axes.set_xscale("log")
        axes.legend(fontsize=8)
        label(axes, x="largest difference / largest number (float64)", y="")
        return figure


def _attend(kind: str) -> Attend:
    return Attend(WIDTH, HEADS, projections=kind, bias=True)


def _weights(seed: int, dtype: torch.dtype) -> Weights:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {
            name: nn.init.normal_(each.detach().to(dtype), std=WIDTH**-0.5)
            for name, each in _attend("fused").named_parameters()
        }


def _scores(kind: str, generator: torch.Generator) -> Tensor:
    """A mask as scores to add, (batch, 1, queries, keys); each query sees itself."""
    seen = torch.rand(BATCH, 1, LENGTH, LENGTH, generator=generator) < 0.6
    seen |= torch.eye(LENGTH, dtype=torch.bool)
    added = torch.randn(seen.shape, generator=generator) * (kind == "added")
    return added.masked_fill(~seen, -torch.inf)


def _run(way: Way, weights: Weights, hidden: Tensor, added: Tensor, above: Tensor) -> list[Tensor]:
    """Output, gradient of the input, gradients of all weights."""
    asked = [each.clone().requires_grad_() for each in (hidden, *weights.values())]
    output = way(dict(zip(weights, asked[1:], strict=True)), asked[0], added)
    return [output.detach(), *torch.autograd.grad(output, asked, above, allow_unused=True, materialize_grads=True)]


def _package(weights: Weights, hidden: Tensor, added: Tensor, kind: str = "fused") -> Tensor:
    output: Tensor = functional_call(_attend(kind), dict(weights), (hidden, AttentionMask.adding(added)))
    return output


def _by_head(weights: Weights) -> list[Tensor]:
    """W_Q, W_K, W_V and their biases with a first axis of heads: (heads, d_head, d_model), (heads, d_head)."""
    both = (weights["projections.weight"], weights["projections.bias"])
    return [part for each in both for part in to_heads(from_fused(each, SIZES), SIZES)]


def _columns(weights: Weights) -> Tensor:
    """W_O with the columns of each head apart: (d_model, heads, d_head)."""
    return weights["output.weight"].view(WIDTH, HEADS, SIZES.d_head)


def _loop(weights: Weights, hidden: Tensor, added: Tensor) -> Tensor:
    """The formulas of the paper, one head after another."""
    joined = torch.cat([_one_head(hidden, added[:, 0], *each) for each in zip(*_by_head(weights), strict=True)], dim=-1)
    return joined @ weights["output.weight"].T + weights["output.bias"]


def _one_head(hidden: Tensor, added: Tensor, *maps: Tensor) -> Tensor:
    """(batch, length, d_model) -> Z, (batch, length, d_head)."""
    query, key, value = (hidden @ weight.T + bias for weight, bias in zip(maps[:3], maps[3:], strict=True))
    scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5 + added  # (batch, queries, keys)
    mixed: Tensor = scores.softmax(dim=-1) @ value
    return mixed


def _einsum(weights: Weights, hidden: Tensor, added: Tensor) -> Tensor:
    """All heads in one formula, joining and W_O included."""
    maps = _by_head(weights)
    query, key, value = (torch.einsum("bld,hfd->bhlf", hidden, maps[i]) + maps[i + 3][:, None] for i in range(3))
    scores = torch.einsum("bhqf,bhkf->bhqk", query, key) / query.shape[-1] ** 0.5 + added
    return torch.einsum("bhqk,bhkf,ohf->bqo", scores.softmax(dim=-1), value, _columns(weights)) + weights["output.bias"]


def _three(weights: Weights, hidden: Tensor, added: Tensor) -> Tensor:
    """The package's three separate matrices, given the rows of the fused one."""
    state = {name: each for name, each in weights.items() if name.startswith("output")}
    for what in ("weight", "bias"):
        for name, rows in zip(
            ("query", "key", "value"), from_fused(weights[f"projections.{what}"], SIZES), strict=True
        ):
            state[f"projections.{name}.{what}"] = rows
    return _package(state, hidden, added, "separate")


def _torch(weights: Weights, hidden: Tensor, added: Tensor) -> Tensor:
    """torch.nn.MultiheadAttention."""
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    ours = ("projections.weight", "projections.bias", "output.weight", "output.bias")
    state = {name: weights[each] for name, each in zip(names, ours, strict=True)}
    mask = {"attn_mask": added.expand(-1, HEADS, -1, -1).flatten(0, 1)}  # (batch * heads, queries, keys)
    output: Tensor = functional_call(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), state, (hidden,) * 3, mask)[
        0
    ]
    return output


def _renumbered(weights: Weights) -> dict[str, Tensor]:
    """W_Q, W_K and W_V with the heads in another order."""
    order = torch.arange(HEADS).roll(3)
    maps = [each[order] for each in _by_head(weights)]
    return {
        **weights,
        "projections.weight": to_fused(from_heads((maps[0], maps[1], maps[2]))),
        "projections.bias": to_fused(from_heads((maps[3], maps[4], maps[5]))),
    }


def _all_renumbered(weights: Weights, hidden: Tensor, added: Tensor) -> Tensor:
    columns = _columns(weights)[:, torch.arange(HEADS).roll(3)].flatten(1)
    return _package({**_renumbered(weights), "output.weight": columns}, hidden, added)


def _summed(weights: Weights, hidden: Tensor, added: Tensor) -> Tensor:
    """Each head through its own columns of W_O, then a sum; nothing is joined."""
    heads = _without(weights, hidden, added).view(BATCH, LENGTH, HEADS, SIZES.d_head)
    each = [heads[:, :, head] @ _columns(weights)[:, head].T for head in range(HEADS)]
    return torch.stack(each).sum(dim=0) + weights["output.bias"]


def _without(weights: Weights, hidden: Tensor, added: Tensor) -> Tensor:
    """The joined heads as they are: W_O is the identity."""
    none = {
        "output.weight": torch.eye(WIDTH, dtype=hidden.dtype),
        "output.bias": torch.zeros(WIDTH, dtype=hidden.dtype),
    }
    return _package({**weights, **none}, hidden, added)


EQUAL: Mapping[str, Way] = {
    "loop over heads": _loop,
    "einsum": _einsum,
    "three matrices": _three,
    "torch's module": _torch,
    "heads and W_O renumbered": _all_renumbered,
    "sum of heads": _summed,
}
OTHERS: Mapping[str, Way] = {
    "heads renumbered, W_O not": lambda weights, hidden, added: _package(_renumbered(weights), hidden, added),
    "without W_O": _without,
}
CHINESE = {
    "loop over heads": "逐头循环",
    "einsum": "einsum",
    "three matrices": "三个独立矩阵",
    "torch's module": "torch 自带模块",
    "heads and W_O renumbered": "头与 W_O 一起重新编号",
    "sum of heads": "各头求和",
    "heads renumbered, W_O not": "只给头重新编号",
    "without W_O": "去掉 W_O",
}


def _excess(rows: Rows, name: str) -> float:
    """The largest difference of a way in shares of the tolerance."""
    return max(
        value / SAME[d]
        for d in SAME
        for what in ("output", "gradients")
        for value in rows.column(what, way=name, dtype=d)
    )
