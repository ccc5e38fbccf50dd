"""How is padding kept out of attention, and is a large negative number as good as minus infinity?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.lab.pictures import COLOURS, label, panels
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.training import build, encoder, loss_of
from clearhead.model.attention.dot import Dot
from clearhead.model.mask import OPEN
from clearhead.model.position.base import UNRELATED

FORMATS = ("float16", "bfloat16", "float32", "float64")
FILLS = ("-1e4", "-1e9", "lowest", "-inf")
BATCH, LENGTH, VOCAB = 3, 7, 23
KEPT = 5  # keys that are not padding, in the table of fills
INVARIANT = 1e-6  # in float32
WRONG = 1e-3  # a wrong variant must be off by more


@QUESTIONS.register("padding-mask")
class PaddingMask(Question):
    """A table of fill values by number format, then a model on the same sentences with more and more padding."""

    topic = "masks"
    title = Text(
        en="How is padding kept out of attention, and is -1e9 as good as minus infinity?",
        zh="怎样让填充完全不影响注意力？用 -1e9 与用负无穷是否等价？",
    )
    sources = (Source("000", "5"), Source("003", "I.5"))
    claims = (
        Claim(
            "negligible",
            Text(
                en="A very small number such as -1e9 in place of padded scores makes their weight about 0, so padding is ignored.",
                zh="把填充位置的打分换成 -1e9 这样极小的数，其权重就近似为 0，填充因此被忽略。",
            ),
            Source("000", "5"),
            note=Text(
                en="Scores of padded keys are replaced, not the padding itself; a row of padding alone is not mentioned.",
                zh="被替换的是填充键的打分，而不是填充本身；没有提到全为填充的行。",
            ),
        ),
    )
    prediction = Text(
        en="In float32 the weight is exactly 0 by underflow and results do not depend on padding. -1e9 does not fit float16, and a row "
        "of nothing but padding becomes uniform with a finite fill and NaN with -inf, so the claim depends on format and row.",
        zh="float32 下因下溢权重恰为 0，结果与填充无关。float16 放不下 -1e9；全为填充的行，用有限值会变成均匀分布，用负无穷则得到 NaN。"
        "因此论断是否成立取决于数字格式和行。",
    )
    criterion = Text(
        en="depends if in float32 the weight of padding with -1e9 is exactly 0 and a model's outputs, loss and gradients change by at "
        "most 1e-6 of their largest number with more padding, while -1e9 does not fit some format or rows of padding alone differ between fills; supported "
        "without such an exception; refuted if float32 fails or a wrong variant (hiding queries, zeroing values, multiplying after "
        "softmax) is not off by more than 0.001.",
        zh="若 float32 下用 -1e9 时填充的权重恰为 0，且增加填充时模型的输出、损失和梯度的相对变化不超过 1e-6，而某种格式放不下 -1e9，或全为填充的行"
        "在不同填充值下结果不同，则视情况而定；没有这类例外则成立；float32 不满足，或错误做法（遮查询、清零值、softmax 后相乘）的误差"
        "不超过 0.001，则不成立。",
    )
    parts = ("clearhead.model.mask:AttentionMask", "clearhead.model.attention.base:masked_softmax")
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2.3 (-inf, there for the decoder)",
        "PyTorch documentation of torch.nn.functional.scaled_dot_product_attention (attn_mask)",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        yield {"part": "fill"}
        for seed in scale.seeds(quick=2, full=10):
            yield {"part": "model", "seed": seed}
            yield {"part": "wrong", "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        if cell["part"] == "fill":
            return _fills()
        return {"model": _invariance, "wrong": _wrong}[str(cell["part"])](int(cell["seed"] or 0))

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        weight = rows.one("weight", format="float32", fill="-1e9", hidden="some")
        changes = max(max(rows.column(each, part="model")) for each in ("output", "loss", "gradient"))
        deviation = min(rows.column("deviation", part="wrong"))
        unfit = [str(row["format"]) for row in rows.where(part="fill", fill="-1e9", hidden="some", fits=False)]
        alone = rows.one("weight", format="float32", fill="-1e9", hidden="all")
        right = weight == 0.0 and changes <= INVARIANT and deviation > WRONG
        verdict = (Verdict.DEPENDS if unfit or alone > 0.0 else Verdict.SUPPORTED) if right else Verdict.REFUTED
        return {
            "negligible": Judgement(
                verdict,
                Text(
                    en=f"float32: weight of padding {weight:g}; outputs, loss and gradients change by at most {changes:.1g} of their largest "
                    f"number when padding is added. -1e9 does not fit {', '.join(unfit) or 'no format'}. In a row of padding alone each key gets {alone:.2f} with it.",
                    zh=f"float32：填充的权重为 {weight:g}；增加填充时，输出、损失和梯度的相对变化不超过 {changes:.1g}。放不下 -1e9 的格式："
                    f"{'、'.join(unfit) or '无'}。用 -1e9 时，全为填充的行里每个键得到 {alone:.2f}。",
                ),
            )
        }

    def answer(self, rows: Rows) -> Answer:
        wrong = {str(name): rows.mean("deviation", part="wrong", variant=name) for name in rows.distinct("variant")}
        return Answer(
            short=Text(
                en="Replace the scores of padded keys by -inf before softmax, in every row; then their weight is exactly 0 and neither "
                "outputs nor gradients know how much padding there was. -1e9 does the same in float32. It fails in float16, which has no "
                "such number, and for rows of nothing but padding, which come out uniform (a finite number) or NaN (-inf): such "
                "rows need a rule of their own, here zeros, and must not count in the loss.",
                zh="在 softmax 之前把每一行中填充键的打分换成负无穷，其权重就恰为 0，输出和梯度都与填充多少无关。float32 下 -1e9 效果相同；"
                "float16 没有这个数；全为填充的行会变成均匀分布（有限值）或 NaN（负无穷），需要另行约定，本库规定为零向量，并且不计入损失。",
            ),
            imprecise=Text(
                en="Hiding must happen to keys, before softmax. Wrong variants, mean deviation: "
                + ", ".join(f"{name} {value:.2g}" for name, value in wrong.items())
                + ".",
                zh="要遮的是键，而且在 softmax 之前。错误做法的平均偏差："
                + "、".join(f"{_CHINESE[name]} {value:.2g}" for name, value in wrong.items())
                + "。",
            ),
            limits=Text(
                en=f"An untrained encoder of 2 layers, {len(rows.where(part='model').distinct('seed'))} seed(s), float32 on a CPU.",
                zh=f"未训练的两层编码器，{len(rows.where(part='model').distinct('seed'))} 个随机种子，CPU 上的 float32。",
            ),
            caption=Text(
                en="Weight that padding gets: left with real keys in the row, right in a row of padding alone.",
                zh="填充得到的权重：左为行内还有真实的键，右为全是填充的行。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, axes = panels(2, height=3.0)
        for place, (hidden, title) in enumerate((("some", "some keys are padding"), ("all", "all keys are padding"))):
            for r, name in enumerate(FORMATS):
                for c, fill in enumerate(FILLS):
                    (row,) = rows.where(part="fill", format=name, fill=fill, hidden=hidden)
                    text, colour = _shown(row)
                    axes[place].text(c, r, text, ha="center", va="center", color=COLOURS[colour], fontweight="bold")
            axes[place].set_xlim(-0.5, len(FILLS) - 0.5)
            axes[place].set_ylim(len(FORMATS) - 0.5, -0.5)
            axes[place].set_xticks(range(len(FILLS)), FILLS)
            axes[place].set_yticks(range(len(FORMATS)), FORMATS)
            axes[place].grid(visible=False)
            label(axes[place], x="score in place of padding", y="number format", title=f"weight of padding: {title}")
        return figure


_CHINESE = {"queries hidden": "遮住查询", "values zeroed": "值清零", "multiplied after softmax": "softmax 后相乘"}


def _shown(row: Row) -> tuple[str, int]:
    """What a cell of the picture says, and its colour."""
    if not row["fits"]:
        return "does not fit", 1
    weight = float(row["weight"] or 0)
    return ("NaN", 1) if weight != weight else (f"{weight:.2g}", 2 if weight == 0 else 1)


def _fills() -> Iterable[Row]:
    """The weight that padded keys get for each fill value and number format, by torch's softmax."""
    scores = torch.linspace(-1.0, 1.0, LENGTH, dtype=torch.float64)
    for name in FORMATS:
        dtype = getattr(torch, name)
        for fill in FILLS:
            value = torch.finfo(dtype).min if fill == "lowest" else float(fill)
            fits = fill == "-inf" or value >= torch.finfo(dtype).min
            for hidden, kept in (("some", KEPT), ("all", 0)):
                filled = scores.clone()
                filled[kept:] = value
                weights = filled.to(dtype).softmax(dim=-1)
                yield {
                    "format": name,
                    "fill": fill,
                    "hidden": hidden,
                    "fits": fits,
                    "weight": float(weights[kept:].max()),
                    "row_sum": float(weights.sum()),
                }


def _invariance(seed: int) -> Iterable[Row]:
    """How much outputs at real tokens, loss and gradients change when sentences are padded."""
    model = build(encoder(VOCAB), seed)
    tokens = torch.randint(1, VOCAB, (BATCH, LENGTH), generator=torch.Generator().manual_seed(seed))
    plain = _passed(model, tokens, None)
    for pads in (5, 50):
        padded = torch.cat([tokens, torch.zeros(BATCH, pads, dtype=torch.long)], dim=1)
        valid = torch.arange(LENGTH + pads).expand(BATCH, -1) < LENGTH
        found = _passed(model, padded, valid)
        names = ("output", "loss", "gradient")
        yield {
            "pads": pads,
            **{
                name: float((after - before).abs().max() / before.abs().max())
                for name, before, after in zip(names, plain, found, strict=True)
            },
        }


def _passed(model: torch.nn.Module, tokens: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs at the real tokens, loss, and all gradients in a row."""
    model.zero_grad()
    hidden = model.encode(tokens, valid).hidden[:, :LENGTH]  # type: ignore[operator]
    loss = loss_of(model.logits(hidden), tokens[:, :LENGTH])  # type: ignore[operator]
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])
    return hidden.detach(), loss.detach(), gradients


def _wrong(seed: int) -> Iterable[Row]:
    """How far wrong ways to hide padding are from attention over the sentence cut to its length."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, BATCH, 1, LENGTH, 8, generator=generator)
    kernel, valid = Dot(1, 8, 0.0), (torch.arange(LENGTH) < KEPT).float()
    right = kernel(query[:, :, :KEPT], key[:, :, :KEPT], value[:, :, :KEPT], OPEN, UNRELATED)
    weights = kernel.weights(query, key, OPEN, UNRELATED)
    ways = {
        "queries hidden": (weights * valid[:, None]) @ value,
        "values zeroed": weights @ (value * valid[:, None]),
        "multiplied after softmax": (weights * valid) @ value,
    }
    for name, found in ways.items():
        yield {"variant": name, "deviation": float((found[:, :, :KEPT] - right).abs().max())}
