"""Which assumption does layer normalisation make, and to what is a layer therefore blind?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.lab.parts.readout import readout
from clearhead.lab.pictures import grouped, label, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import interval
from clearhead.model.norm import NORMS, LayerNorm, RMSNorm

FEATURES, EXAMPLES = 8, 4000
EXACT = 1e-10  # largest change, float64 and epsilon 0, that counts as none
SEEN = 0.01  # a change above this is one
SOLVED, CHANCE = 0.95, 0.55
READERS = {"none": "no norm", "layernorm": "LayerNorm", "rmsnorm": "RMSNorm", "appended": "LayerNorm + size"}
TASKS = {"direction": "in the direction", "size": "in the size", "outlier": "beside an outlier"}


@QUESTIONS.register("layernorm-assumption")
class LayernormAssumption(Question):
    """Exact invariances, the sphere, and labels that lie where LayerNorm looks and where it does not."""

    topic = "norm-residual"
    title = Text(
        en="Which assumption about neurons does LayerNorm make, and to which changes is a layer blind?",
        zh="层归一化对神经元隐含了怎样的假设？网络因此对哪些变化不敏感？",
    )
    sources = (Source("003", "II.5"),)
    claims = (
        Claim(
            "assumption",
            Text(en="LayerNorm rests on an assumption about the network.", zh="层归一化建立在对网络的某种假设之上。"),
            Source("003", "II.5"),
            note=Text(en="The document asks which one and gives no answer.", zh="原文只问是什么假设，没有给出答案。"),
        ),
    )
    prediction = Text(
        en="The assumption: within one token all neurons share a scale and an offset that carry nothing of worth. So "
        "LN(a x + b) = LN(x) exactly, results lie on a sphere, and a label that is written in the size of a vector "
        "cannot be learned behind LayerNorm, while one in its direction can.",
        zh="假设是：同一个词的所有神经元共有的尺度和偏移不含有用信息。因此 LN(ax + b) 与 LN(x) 完全相等，结果落在球面"
        "上；写在向量大小里的标签在层归一化之后学不到，写在方向里的则可以。",
    )
    criterion = Text(
        en="Supported if, with epsilon 0 in float64, shifting and scaling an example, scaling the whole weight matrix "
        "below and moving all its rows together change the result by at most 1e-10, results have length sqrt(d) and "
        "mean 0 within 1e-10, scaling a single row changes it by more than 0.01, and of two labels that are read "
        "above 95 % without norm the one in the direction is read above 95 % and the one in the size below 55 % "
        "behind LayerNorm. Refuted if an invariance fails or the size is read above 95 %. Else inconclusive.",
        zh="在 float64、epsilon 为 0 时，对样本平移与缩放、把下方整个权重矩阵缩放、让其各行一起平移，结果变化都不超过 "
        "1e-10；结果长度为 √d、均值为 0（误差不超过 1e-10）；只缩放一行则变化超过 0.01；两种标签在无归一化时都能以 "
        "95% 以上读出，而在层归一化之后，方向标签高于 95%、大小标签低于 55%，则成立。某项不变性不满足，或大小标签高于"
        " 95%，则不成立。其余尚无定论。",
    )
    parts = ("clearhead.model.norm.layernorm:LayerNorm", "clearhead.model.norm.rmsnorm:RMSNorm")
    references = (
        "Ba, Kiros and Hinton, 2016, arXiv:1607.06450, section 5.1 and table 1",
        "Brody, Alon and Yahav, 2023, arXiv:2305.02582",
        "Zhang and Sennrich, 2019, arXiv:1910.07467",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        for seed in scale.seeds(quick=1, full=5):
            yield {"part": "exact", "seed": seed}
            for reader in READERS:
                yield {"part": "reading", "reader": reader, "updates": scale.pick(quick=150, full=400), "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed = int(cell["seed"] or 0)
        if cell["part"] == "exact":
            return [_invariances(seed)]
        return _reading(str(cell["reader"]), int(cell["updates"] or 0), seed)

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        blind = max(max(rows.column(each)) for each in ("shift and scale", "whole matrix", "all rows moved", "sphere"))
        row = min(rows.column("one row"))
        read = {(task, reader): rows.mean("accuracy", task=task, reader=reader) for task in TASKS for reader in READERS}
        exact = blind <= EXACT and row > SEEN
        fair = min(read["direction", "none"], read["size", "none"]) > SOLVED
        split = read["direction", "layernorm"] > SOLVED and read["size", "layernorm"] < CHANCE
        failed = not exact or read["size", "layernorm"] > SOLVED
        verdict = Verdict.REFUTED if failed else Verdict.SUPPORTED if fair and split else Verdict.INCONCLUSIVE
        return {
            "assumption": Judgement(
                verdict,
                Text(
                    en=f"Invariances hold within {blind:.1g}; scaling one row changes the result by {row:.2g}. Behind "
                    f"LayerNorm a label in the direction is read in {read['direction', 'layernorm']:.0%}, one in the "
                    f"size in {read['size', 'layernorm']:.0%} (without norm {read['size', 'none']:.0%}).",
                    zh=f"不变性的误差不超过 {blind:.1g}；只缩放一行时变化 {row:.2g}。层归一化之后，方向标签的正确率为 "
                    f"{read['direction', 'layernorm']:.0%}，大小标签为 {read['size', 'layernorm']:.0%}（无归一化时 "
                    f"{read['size', 'none']:.0%}）。",
                ),
            )
        }

    def answer(self, rows: Rows) -> Answer:
        read = {(task, reader): rows.mean("accuracy", task=task, reader=reader) for task in TASKS for reader in READERS}
        return Answer(
            short=Text(
                en=f"The assumption is that the common scale and offset of a token's neurons carry nothing useful. A "
                f"layer behind the norm is blind to both: it reads a label in the size of a vector in "
                f"{read['size', 'layernorm']:.0%} (chance 50 %), and in {read['size', 'appended']:.0%} once the size "
                f"is appended as a feature. Before gain and bias every result lies on one sphere, orthogonal to the vector of ones.",
                zh=f"假设是：一个词的各神经元共有的尺度和偏移不含有用信息。网络对这两者都视而不见：大小标签的正确率为 "
                f"{read['size', 'layernorm']:.0%}（随机为 50%），把大小作为特征附上后为 "
                f"{read['size', 'appended']:.0%}。在乘增益、加偏置之前，所有结果都落在同一个球面上，并与全 1 向量正交。",
            ),
            imprecise=Text(
                en=f"The result is blind to the scale of the whole weight matrix below, not to that of single rows. RMSNorm drops the offset's part: a shift "
                f"changes its result by {min(rows.column('rms shift')):.2g}. Where neurons do not share a scale the "
                f"assumption may cost: beside one huge feature a label is read in {read['outlier', 'layernorm']:.0%} "
                f"behind LayerNorm and {read['outlier', 'none']:.0%} without.",
                zh=f"结果不受下方整个权重矩阵缩放的影响，但受单独一行缩放的影响。RMSNorm 不假设偏移无用：平移会使其结果改变 "
                f"{min(rows.column('rms shift')):.2g}。当各神经元尺度并不一致时，这个假设可能有代价：旁边有一个极大的特征"
                f"时，层归一化之后的正确率为 {read['outlier', 'layernorm']:.0%}，无归一化为 "
                f"{read['outlier', 'none']:.0%}。",
            ),
            limits=Text(
                en=f"One norm before a small classifier of {FEATURES} features, {len(rows.distinct('seed'))} seed(s). "
                f"Epsilon ends the invariance for tiny inputs: at variance 1e-6 the result has size "
                f"{max(rows.column('tiny')):.2f} in place of 1.",
                zh=f"小分类器之前只有一层归一化，{FEATURES} 维，{len(rows.distinct('seed'))} 个种子。输入极小时 "
                f"epsilon 会破坏不变性：方差为 1e-6 时，结果大小为 {max(rows.column('tiny')):.2f} 而不是 1。",
            ),
            caption=Text(
                en="Accuracy of a small classifier by where the label is written: LayerNorm is blind to size, not to "
                "direction.",
                zh="小分类器在标签位于不同之处时的正确率：层归一化看不到大小，看得到方向。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (axes,) = panels(1, width=7.0)
        series = {
            name: [interval(rows.column("accuracy", task=task, reader=reader)) for task in TASKS]
            for reader, name in READERS.items()
        }
        grouped(axes, [f"label {name}" for name in TASKS.values()], series)
        axes.set_ylim(0.0, 1.1)
        threshold(axes, 0.5, "chance")
        axes.legend(fontsize=8, loc="lower right")
        label(axes, x="where the label is written", y="accuracy")
        return figure


def _invariances(seed: int) -> Row:
    """How far the result of a norm with epsilon 0 moves under changes of its input, float64."""
    generator = torch.Generator().manual_seed(seed)
    vectors, matrix = (torch.randn(size, FEATURES, generator=generator, dtype=torch.float64) for size in (8, FEATURES))
    norm, rms = LayerNorm(FEATURES, epsilon=0.0).double(), RMSNorm(FEATURES, epsilon=1e-30).double()
    row = matrix.clone()
    row[0] *= 3.0
    moved = matrix + torch.randn(1, FEATURES, generator=generator, dtype=torch.float64)  # the same for every row

    def change(part: LayerNorm | RMSNorm, one: Tensor, other: Tensor) -> Tensor:
        moved: Tensor = (part(one) - part(other)).abs().max().detach()
        return moved

    result = norm(vectors).detach()
    tiny = 1e-3 * vectors / vectors.std(dim=-1, keepdim=True, unbiased=False)
    sphere = torch.stack((result.norm(dim=-1) - FEATURES**0.5, result.sum(dim=-1))).abs().max()
    return {
        "shift and scale": change(norm, vectors, 2.5 * vectors + 7.0),
        "whole matrix": change(norm, vectors @ matrix.T, vectors @ (3.0 * matrix).T),
        "all rows moved": change(norm, vectors @ matrix.T, vectors @ moved.T),
        "one row": change(norm, vectors @ matrix.T, vectors @ row.T),
        "sphere": sphere,
        "rms shift": change(rms, vectors, vectors + 7.0),
        "tiny": LayerNorm(FEATURES).double()(tiny).detach().square().mean().sqrt(),
    }


def _reading(reader: str, updates: int, seed: int) -> Iterable[Row]:
    """Accuracies of a small network behind a norm, for labels in different places."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(EXAMPLES, FEATURES, generator=generator)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    large = torch.rand(EXAMPLES, generator=generator) > 0.5
    size = (1.0 + 2.0 * large + torch.rand(EXAMPLES, generator=generator))[:, None]  # 1 to 2, or 3 to 4
    vectors = size * direction
    outlier = vectors.clone()
    outlier[:, -1] *= 100 * torch.randn(EXAMPLES, generator=generator).exp()
    labels = {
        "direction": (vectors, direction[:, 0] > direction[:, 1]),
        "size": (vectors, large),
        "outlier": (outlier, vectors[:, 0] > vectors[:, 1]),
    }
    for name, (seen, wanted) in labels.items():
        accuracy = readout(_seen(reader, seen), wanted.long(), seed, inner=32, updates=updates)
        yield {"task": name, "accuracy": accuracy}


def _seen(reader: str, vectors: Tensor) -> Tensor:
    """What the classifier gets to see."""
    if reader != "appended":
        seen: Tensor = NORMS.get(reader)(FEATURES)(vectors).detach()
        return seen
    sizes = vectors.norm(dim=-1, keepdim=True).log()
    return torch.cat((LayerNorm(FEATURES)(vectors).detach(), sizes), dim=1)  # (examples, features + 1)
