"""Is there one formula for every mask, and which identities must it keep?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from clearhead.lab.pictures import label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.model.attention.dot import Dot
from clearhead.model.mask import AttentionMask
from clearhead.model.position.base import UNRELATED

FAMILIES = ("causal", "padding", "band", "blocks", "random", "per head", "per sample")
IDENTITIES = ("gathered", "additive", "renormalised", "torch", "composed")
BATCH, HEADS, D_HEAD, LONGEST = 2, 2, 8, 24
EXACT = {"float64": 1e-12, "float32": 1e-6}
CONTROL = 1e-2  # a wrong formula must be off by more


@QUESTIONS.register("arbitrary-mask-math")
class ArbitraryMaskMath(Question):
    """Random masks of many families through the package's kernel, against attention over gathered keys."""

    topic = "masks"
    title = Text(
        en="Can one formula hide any pattern of positions and lengths, and which identities must it keep?",
        zh="能否用一个公式遮住任意位置、任意长度？它应当满足哪些恒等式？",
    )
    sources = (Source("003", "IV.1"),)
    claims = (
        Claim(
            "one-formula",
            Text(
                en="Any pattern of positions and lengths can be hidden by one mathematical scheme.",
                zh="任意位置、任意长度都可以用同一个数学形式来遮挡。",
            ),
            Source("003", "IV.1"),
        ),
    )
    prediction = Text(
        en="Yes: softmax(S + log M) is softmax over the allowed keys, whatever M is; masks compose by AND. Multiplying by M after "
        "softmax is something else, since hidden keys stay in the denominator.",
        zh="可以：无论 M 取何值，softmax(S + log M) 就是只在允许的键上做 softmax；遮挡的复合等于逻辑与。在 softmax 之后再乘 M 则不同，"
        "因为被遮住的键仍留在分母里。",
    )
    criterion = Text(
        en="Supported if every identity holds to 1e-12 in float64 and 1e-6 in float32, relative to the largest result, for every family, rows without an allowed "
        "key give zeros, gradients at hidden keys and values are exactly 0, and the control (multiply after softmax) is off by "
        "more than 0.01; refuted otherwise.",
        zh="若每类遮挡的各恒等式在 float64 下相对误差不超过 1e-12、float32 下不超过 1e-6，没有可见键的行得到零向量，被遮住的键和值的梯度"
        "恰为 0，而对照做法（softmax 之后相乘）误差大于 0.01，则成立；否则不成立。",
    )
    parts = ("clearhead.model.mask:AttentionMask", "clearhead.model.attention.dot:Dot")
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2.3",
        "Raffel et al., 2020, arXiv:1910.10683, section 3.2.1 (mask patterns)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        draws = scale.pick(quick=4, full=30)
        for seed in scale.seeds(quick=1, full=2):
            for each in FAMILIES:
                yield {"family": each, "draws": draws, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        generator = torch.Generator().manual_seed(int(cell["seed"] or 0))
        for number in range(int(cell["draws"] or 0)):
            length = int(torch.randint(3, LONGEST + 1, (), generator=generator))
            allowed = drawn(str(cell["family"]), length, generator)
            states = torch.randn(3, BATCH, HEADS, length, D_HEAD, generator=generator).double()
            other = torch.rand(length, length, generator=generator) < 0.7
            for name in EXACT:
                query, key, value = states.to(getattr(torch, name))
                errors = _errors(query, key, value, allowed, other)
                yield {"draw": number, "format": name, "length": length, **errors}

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        worst = {name: max(max(rows.column(each, format=name)) for each in IDENTITIES) for name in EXACT}
        leak, control = max(rows.column("leak")), max(rows.column("control"))
        empty = max(rows.column("empty"))
        holds = all(worst[name] <= limit for name, limit in EXACT.items()) and leak == 0.0 and empty == 0.0
        verdict = Verdict.SUPPORTED if holds and control > CONTROL else Verdict.REFUTED
        return {
            "one-formula": Judgement(
                verdict,
                Text(
                    en=f"Over {len(rows) // len(EXACT)} masks of {len(FAMILIES)} families the identities differ by at most "
                    f"{worst['float64']:.0e} (float64) and {worst['float32']:.0e} (float32) of the largest result; the largest gradient at a hidden key or "
                    f"value is {leak:g}; multiplying after softmax is off by up to {control:.2f} of it.",
                    zh=f"{len(FAMILIES)} 类共 {len(rows) // len(EXACT)} 个遮挡，各恒等式最大相差 {worst['float64']:.0e}（float64）和 "
                    f"{worst['float32']:.0e}（float32）；被遮住的键和值的最大梯度为 {leak:g}；softmax 之后再乘的做法误差可达 {control:.2f}（均相对于最大的结果）。",
                ),
            )
        }

    def answer(self, rows: Rows) -> Answer:
        return Answer(
            short=Text(
                en="Write 1 for an allowed pair and 0 for a hidden one: softmax(S + log M) is softmax over the allowed keys alone. Masks "
                "compose by AND, which is adding their logarithms. A hidden key gets weight 0 and gradient 0. What remains to be "
                "agreed on is a query that sees nothing: here its result is the zero vector.",
                zh="允许的一对记为 1，遮住的记为 0：softmax(S + log M) 就是只在允许的键上做 softmax。遮挡的复合是逻辑与，也就是把各自的对数相加。"
                "被遮住的键权重为 0，梯度也为 0。唯一需要约定的是什么都看不到的查询：本库规定其结果为零向量。",
            ),
            imprecise=Text(
                en=f"Multiplying the weights by the mask after softmax is no mask: results differ by up to {max(rows.column('control')):.2f} "
                "of the largest one, unless each row is divided by its sum again.",
                zh=f"在 softmax 之后用遮挡去乘权重并不等价，误差可达最大结果的 {max(rows.column('control')):.2f} 倍，除非每行重新除以自己的和。",
            ),
            limits=Text(
                en=f"Lengths 3 to {LONGEST}, dot-product scores, {len(rows) // len(EXACT)} random masks.",
                zh=f"长度 3 到 {LONGEST}，点积打分，{len(rows) // len(EXACT)} 个随机遮挡。",
            ),
            caption=Text(
                en="Largest error for each family; what lies below the dashed line counts as equal. Multiplying after softmax is the wrong way.",
                zh="每类遮挡的最大误差；虚线以下视为相等。softmax 之后相乘是错误的做法。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (axes,) = panels(1, width=7.0)
        double = rows.where(format="float64")
        for place, each in enumerate((*IDENTITIES, "control")):
            values = [max(max(double.column(each, family=family)), 1e-17) for family in FAMILIES]
            name = "multiplied after softmax" if each == "control" else each
            line(axes, list(range(len(FAMILIES))), values, name, place)
        threshold(axes, EXACT["float64"], "criterion")
        axes.set_yscale("log")
        axes.set_xticks(range(len(FAMILIES)), FAMILIES)
        axes.legend(fontsize=8, ncols=2, loc="center right")
        label(axes, x="family of masks", y="largest relative error, float64")
        return figure


def drawn(family: str, length: int, generator: torch.Generator) -> Tensor:
    """A random mask of a family: bool, (1 or batch, 1 or heads, length, length); True = visible."""
    slot = torch.arange(length)
    size = int(torch.randint(1, length + 1, (), generator=generator))
    if family == "causal":
        return (slot <= slot[:, None])[None, None]
    if family == "padding":
        lengths = torch.randint(0, length + 1, (BATCH,), generator=generator)
        return (slot < lengths[:, None])[:, None, None].expand(-1, -1, length, -1)
    if family == "band":
        return ((slot - slot[:, None]).abs() < size)[None, None]
    if family == "blocks":
        return (slot // size == slot[:, None] // size)[None, None]
    shape = {"random": (1, 1), "per head": (1, HEADS), "per sample": (BATCH, 1)}[family]
    return torch.rand(*shape, length, length, generator=generator) < 0.5


def _errors(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, other: Tensor) -> Row:
    """How far each way to mask is from the package's kernel, and what reaches the hidden keys."""
    kernel = Dot(HEADS, D_HEAD, 0.0)
    key, value = key.detach().requires_grad_(), value.detach().requires_grad_()
    ours = kernel(query, key, value, AttentionMask(allowed=allowed), UNRELATED)
    full = allowed.expand(BATCH, HEADS, -1, -1)
    scores, sees = kernel.scores(query, key).detach(), full.any(dim=-1, keepdim=True)
    logs = torch.zeros(full.shape, dtype=query.dtype).masked_fill(~full, -torch.inf)
    exps = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    kept = exps * full
    renormalised = kept / kept.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(query.dtype).tiny)
    ways = {
        "gathered": _gathered(scores, value.detach(), full),
        "additive": kernel(query, key, value, AttentionMask.adding(logs), UNRELATED),
        "renormalised": renormalised @ value,
        "torch": F.scaled_dot_product_attention(query, key, value, attn_mask=full).where(sees, 0.0),
        "composed": kernel(query, key, value, AttentionMask(allowed=allowed) & AttentionMask(allowed=other), UNRELATED)
        - kernel(query, key, value, AttentionMask(allowed=allowed & other), UNRELATED)
        + ours,
    }
    ways["control"] = (exps / exps.sum(dim=-1, keepdim=True) * full) @ value
    leak, ours = _leak(ours, key, value, full), ours.detach()
    largest = float(ours.abs().max()) or 1.0
    return {
        **{name: float((found.detach() - ours).abs().max()) / largest for name, found in ways.items()},
        "empty": float((ours * ~sees).abs().max()),
        "leak": leak,
    }


def _gathered(scores: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
    """Attention row by row over the allowed keys alone, by explicit loops."""
    out = torch.zeros_like(value)
    for b, h, q in torch.cartesian_prod(*map(torch.arange, scores.shape[:3])).tolist():
        keys = allowed[b, h, q].nonzero()[:, 0]
        if len(keys):
            out[b, h, q] = scores[b, h, q, keys].softmax(dim=0) @ value[b, h, keys]
    return out


def _leak(ours: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> float:
    """The largest gradient of the middle query's result at keys and values that are hidden from it."""
    middle = ours.shape[2] // 2
    found = torch.autograd.grad(ours[:, :, middle].square().sum(), (key, value))
    hidden = ~allowed[:, :, middle, :, None]
    return max(float((each * hidden).abs().max()) for each in found)
