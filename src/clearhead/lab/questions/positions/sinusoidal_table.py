"""The sinusoidal table: its definition, its rows, their size."""

import math
from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.lab.pictures import label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.model.embedding import EMBEDDINGS
from clearhead.model.position.sinusoidal import waves

BASE = 10_000.0
FORMATS = ("float64", "float32", "float16")
EXACT = 1e-12
USUAL = 512  # the width of the paper
NOISES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
SHOWN, FEATURES = 64, 64  # of the heat map
OFFSETS = 200


@QUESTIONS.register("sinusoidal-table")
class SinusoidalTable(Question):
    """The package's table against scalar formulas; distances between rows in three number formats; rows read under noise."""

    topic = "positions"
    title = Text(
        en="How is the sinusoidal table defined, is every row unique, and how large are its rows?",
        zh="正弦位置表如何逐维定义？每一行是否互不相同？行向量有多长？",
    )
    sources = (Source("002", "1.1(2)"), Source("002", "1.1(2)2)"), Source("000", "9"), Source("003", "I.9"))
    claims = (
        Claim(
            "definition",
            Text(
                en="Even dimensions hold a sine, odd ones a cosine of the position times a frequency; each position gets a vector of its own.",
                zh="偶数维为正弦、奇数维为余弦，自变量是位置乘以频率；每个位置得到唯一的向量。",
            ),
            Source("002", "1.1(2)2)"),
            note=Text(en="Dimensions are counted from 0.", zh="维度从 0 开始数。"),
        ),
        Claim(
            "unique-everywhere",
            Text(
                en="The vector of a position is unique, whatever the width and the number format.",
                zh="无论宽度和数字格式如何，每个位置的向量都是唯一的。",
            ),
            Source("002", "1.1(2)2)"),
            note=Text(
                en="The document speaks of 512 dimensions and names no number format; the claim is put more widely here.",
                zh="原文只说 512 维，也没有提到数字格式；这里把说法推广了。",
            ),
        ),
        Claim(
            "distinguishes",
            Text(en="Patterns of sines and cosines tell positions apart.", zh="正弦与余弦的模式可以区分不同位置。"),
            Source("000", "9"),
            note=Text(en="Nothing is said of distances between rows.", zh="没有说明行与行之间的距离。"),
        ),
    )
    prediction = Text(
        en="The formula holds to rounding, each row is sqrt(d/2) long, and in float64 no two of 4096 rows are equal. With two dimensions "
        "rows come close to each other, and float16 makes many of them equal. The inner product of rows is not monotone in the offset. "
        "With 512 dimensions positions are read without error under noise of half a unit on each feature.",
        zh="公式与表的差别仅为舍入，每行长度为 √(d/2)，float64 下 4096 行互不相同。只有两维时某些行十分接近，float16 会让许多行相等。"
        "行的内积并不随位置差单调变化。512 维时，每个分量加上 0.5 的噪声，仍能无误地读出位置。",
    )
    criterion = Text(
        en="definition: supported if the table differs from the scalar formula by at most 1e-12, row norms from sqrt(d/2) by at most "
        "1e-12, and in float64 no two rows are equal from width 4 on; else refuted. unique-everywhere: depends if some width and format "
        "has equal rows and another none; supported if none has, refuted if all have. distinguishes: supported if every clean row of "
        "width 4 or more in float64 has itself as its nearest row, else refuted.",
        zh="定义：表与逐个计算的公式相差不超过 1e-12，行长与 √(d/2) 相差不超过 1e-12，且宽度不小于 4 时 float64 下没有相同的行，则成立，"
        "否则不成立。处处唯一：有的宽度和格式出现相同的行而有的没有，则视情况而定；都没有则成立；都有则不成立。可区分：宽度不小于 4 时，"
        "float64 下每个无噪声的行以自身为最近行，则成立，否则不成立。",
    )
    parts = ("clearhead.model.position.sinusoidal:Sinusoidal", "clearhead.model.position.sinusoidal:waves")
    references = ("Vaswani et al., 2017, arXiv:1706.03762, sections 3.4 and 3.5",)

    def cells(self, scale: Scale) -> Iterable[Cell]:
        length = scale.pick(quick=1024, full=4096)
        for width in (2, 4, 16, 64, USUAL):
            yield {"part": "rows", "width": width, "length": length}
        yield {"part": "offsets", "width": USUAL}
        yield {"part": "picture"}
        for seed in scale.seeds(quick=1, full=3):
            for width in scale.pick(quick=(4, USUAL), full=(4, 16, 64, USUAL)):
                yield {"part": "noise", "width": width, "length": length, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        width, length = int(cell.get("width") or 0), int(cell.get("length") or 0)
        if cell["part"] == "rows":
            return _rows(width, length)
        if cell["part"] == "noise":
            return _read(width, length, int(cell["seed"] or 0))
        if cell["part"] == "offsets":
            table = _table(OFFSETS, width)
            return [{"offset": k, "product": float(table[0] @ table[k])} for k in range(OFFSETS)]
        small = _table(SHOWN, FEATURES)
        return [
            {"position": p, **{f"f{f}": round(float(small[p, f]), 3) for f in range(FEATURES)}} for p in range(SHOWN)
        ]

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        table = rows.where(part="rows")
        error, norm = max(table.column("error", format="float64")), max(table.column("norm_error", format="float64"))
        wide = [row for row in table.where(format="float64") if int(row["width"] or 0) >= 4]
        distinct = all(row["equal"] == 0 for row in wide)
        with_equal = [row for row in table if int(row["equal"] or 0)]
        named = ", ".join(f"{r['equal']} (d = {r['width']}, {r['format']})" for r in with_equal) or "none"
        read = min(rows.column("right", part="noise", noise=0.0))
        least = min(float(row["distance"] or 0) for row in wide)
        usual = table.one("distance", format="float64", width=USUAL)
        everywhere = (
            Verdict.DEPENDS
            if 0 < len(with_equal) < len(table)
            else Verdict.REFUTED
            if with_equal
            else Verdict.SUPPORTED
        )
        return {
            "definition": Judgement(
                Verdict.SUPPORTED if max(error, norm) <= EXACT and distinct else Verdict.REFUTED,
                Text(
                    en=f"Largest difference from the scalar formula {error:.1g}, of a norm from sqrt(d/2) {norm:.1g}; from width 4 on the "
                    f"nearest two rows are {least:.2g} apart, {usual:.3g} for d = {USUAL}.",
                    zh=f"与逐个计算的公式最大相差 {error:.1g}，行长与 √(d/2) 最大相差 {norm:.1g}；宽度不小于 4 时，最近的两行相距 {least:.2g}，"
                    f"d = {USUAL} 时为 {usual:.3g}。",
                ),
            ),
            "unique-everywhere": Judgement(
                everywhere,
                Text(
                    en=f"Rows that equal an earlier one, of {table[0]['length']}: {named}.",
                    zh=f"{table[0]['length']} 行中与更早的行相同的行数：{named.replace(', ', '，').replace('none', '无').replace(' (', '（').replace(')', '）')}。",
                ),
            ),
            "distinguishes": Judgement(
                Verdict.SUPPORTED if read == 1.0 else Verdict.REFUTED,
                Text(
                    en=f"The nearest row is the right one for {read:.1%} of the clean rows.",
                    zh=f"无噪声时，最近行正确的比例为 {read:.1%}。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        table = rows.where(part="rows")
        rise, single = _rise(rows), table.one("error", format="float32", width=USUAL)
        noisy = rows.mean("right", part="noise", width=USUAL, noise=1.0)
        embedded, length = table.one("embedding", format="float64", width=USUAL), table[0]["length"]
        return Answer(
            short=Text(
                en=f"Features 2i and 2i + 1 are sine and cosine of position / 10000^(2i/d). Each pair lies on a circle, so every row has the "
                f"same length, {math.sqrt(USUAL / 2):.0f} for d = {USUAL}; freshly initialised word embeddings, times sqrt(d), are {embedded:.0f} long. In float64 all "
                f"{length} rows differ, and with noise of standard deviation 1.0 on each feature, as large as a sine can be, {noisy:.0%} are still read right.",
                zh=f"第 2i 与 2i + 1 个分量是 position / 10000^(2i/d) 的正弦和余弦。每对分量落在圆上，因此各行等长，d = {USUAL} 时为 "
                f"{math.sqrt(USUAL / 2):.0f}；刚初始化的词向量乘以 √d 后长度为 {embedded:.0f}。float64 下 {length} 行互不相同；即使每个分量加上标准差为 1 的噪声，"
                f"仍有 {noisy:.0%} 能读对。",
            ),
            imprecise=Text(
                en=f"Whether rows are unique depends on width and number format. The likeness of rows is not monotone: the inner product of row 0 with row k first rises "
                f"again at k = {rise}. A table computed in float32 throughout is off by up to {single:.1g} within {length} rows: the angle is rounded "
                f"before its sine is taken.",
                zh=f"是否唯一取决于宽度和数字格式。行的相似度并不单调：第 0 行与第 k 行的内积在 k = {rise} 处首次回升。全程用 float32 计算，{length} 行内的最大误差为 "
                f"{single:.1g}，因为取正弦之前角度已被舍入。",
            ),
            limits=Text(
                en=f"{length} positions, base 10000; the scalar formula is compared on the first 256 rows, and of large tables every eighth row is "
                "read under noise. Embeddings are as initialised; trained ones may be of another size.",
                zh=f"{length} 个位置，底数 10000；与公式逐个比较的是前 256 行，大表只取每第八行来测噪声下的读数。词向量取初始值，训练后的长度可能不同。",
            ),
            caption=Text(
                en=f"Left: the table for d = {FEATURES}. Middle: inner product of row 0 and row k, d = {USUAL}. Right: positions read from noisy rows.",
                zh=f"左：d = {FEATURES} 的位置表。中：第 0 行与第 k 行的内积，d = {USUAL}。右：从带噪声的行读出位置的正确率。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (heat, products, noise) = panels(3, width=3.9, height=3.4)
        shown = rows.where(part="picture")
        values = [shown.column(f"f{each}") for each in range(FEATURES)]
        image = heat.imshow(list(zip(*values, strict=True)), aspect="auto", cmap="cividis", interpolation="nearest")
        figure.colorbar(image, ax=heat, label="value")
        heat.grid(visible=False)
        offsets = rows.where(part="offsets")
        products.plot(offsets.column("offset"), offsets.column("product"))
        threshold(products, USUAL / 2, "squared length of a row, d/2")
        products.legend(fontsize=8)
        noisy = rows.where(part="noise")
        for place, width in enumerate(noisy.distinct("width")):
            line(
                noise, NOISES, [noisy.mean("right", width=width, noise=each) for each in NOISES], f"d = {width}", place
            )
        noise.legend(fontsize=8)
        label(heat, x="feature", y="position (tokens)")
        label(products, x="offset k (tokens)", y="inner product of rows 0 and k")
        label(noise, x="standard deviation of the noise", y="positions read right (share)")
        return figure


def _table(length: int, width: int) -> Tensor:
    """The package's table in float64."""
    return waves(torch.arange(length), width, BASE, "pairs")


def _formula(length: int, width: int) -> Tensor:
    """The paper's formula, number by number."""
    rows = [
        [(math.cos if f % 2 else math.sin)(p / BASE ** ((f - f % 2) / width)) for f in range(width)]
        for p in range(length)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _rows(width: int, length: int) -> Iterable[Row]:
    """How exact the table is, how near its rows come to each other, and how many equal an earlier one."""
    true, few = _table(length, width), min(length, 256)
    first_error = float((true[:few] - _formula(few, width)).abs().max())
    for name in FORMATS:
        kept = true.to(getattr(torch, name))
        computed = true if name == "float64" else _computed(length, width, getattr(torch, name)).double()
        yield {
            "format": name,
            "error": first_error if name == "float64" else float((computed - true).abs().max()),
            "norm_error": float((kept.double().norm(dim=1) - math.sqrt(width / 2)).abs().max()),
            "equal": length - len(torch.unique(kept, dim=0)),
            "distance": _nearest(kept.double()),
            "embedding": _embedding_length(width),
        }


def _computed(length: int, width: int, dtype: torch.dtype) -> Tensor:
    """The table with every step in one number format."""
    frequency = (BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)).to(dtype)
    angles = torch.arange(length).to(dtype)[:, None] * frequency
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _nearest(table: Tensor) -> float:
    """The least distance of two rows: the pair is found by inner products, its distance from the difference."""
    least, square = math.inf, table.square().sum(dim=1)
    for start in range(0, len(table), 512):
        some = table[start : start + 512]
        apart = square - 2 * some @ table.T + square[start : start + 512, None]  # (rows, length)
        apart[torch.arange(len(some)), torch.arange(start, start + len(some))] = math.inf
        row, other = divmod(int(apart.argmin()), len(table))
        least = min(least, float((some[row] - table[other]).norm()))
    return least


def _embedding_length(width: int) -> float:
    """How long the package's embeddings are at the start, times sqrt(d_model) as in the paper."""
    torch.manual_seed(0)
    table = EMBEDDINGS.get("table")(512, width, 0)
    return float(table(torch.arange(1, 512)).detach().norm(dim=-1).mean() * width**0.5)


def _read(width: int, length: int, seed: int) -> Iterable[Row]:
    """How many rows are nearest to themselves after noise; the nearest has the largest inner product, all being equally long."""
    table, generator = _table(length, width), torch.Generator().manual_seed(seed)
    noise = torch.randn(table.shape, generator=generator, dtype=torch.float64)
    asked = torch.arange(0, length, 1 if length * width < 100_000 else 8)  # of a large table every eighth row
    for each in NOISES:
        found = ((table + each * noise)[asked] @ table.T).argmax(dim=1)
        yield {"noise": each, "right": float((found == asked).double().mean())}


def _rise(rows: Rows) -> int:
    """The first offset at which the inner product is larger than at the one before."""
    products = rows.column("product", part="offsets")
    return next(k for k in range(1, len(products)) if products[k] > products[k - 1])
