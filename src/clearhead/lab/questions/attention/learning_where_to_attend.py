"""How does a model find out where to look, when nobody labels attention?"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clearhead.data.synthetic import Samples
from clearhead.lab.parts.lookup import SURE, lookup, reader
from clearhead.lab.pictures import label, line, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import interval
from clearhead.lab.training import build, examples, logits, loss_of, train
from clearhead.model import OPEN, Transformer
from clearhead.model.attention.dot import Dot
from clearhead.model.position.base import UNRELATED

EXACT = 1e-10  # largest error of the closed form, float64
FOUND = 0.9  # weight on the right slot of a model that has learned where to look
FORETOLD = 0.8  # share of the logged steps whose direction is foretold
SOLVED = 0.2  # nats; a guess among the four values shown has log 4 = 1.4
EVERY = 5  # updates between two looks
PROBES = 128


@QUESTIONS.register("learning-where-to-attend")
class LearningWhereToAttend(Question):
    """The gradient of a score in closed form, then the weight on the right slot while a lookup is learned."""

    topic = "attention"
    title = Text(
        en="How does a Transformer learn where to look, when nobody labels attention weights?",
        zh="没有人标注注意力权重，模型怎样学会该看哪里？",
    )
    sources = (Source("003", "IV.15"),)
    claims = (
        Claim(
            "learned",
            Text(
                en="A Transformer learns which weights describe the attention to different parts better.",
                zh="Transformer 能学到哪些权重更好地表达对不同部分的注意。",
            ),
            Source("003", "IV.15"),
        ),
        Claim(
            "unique",
            Text(en="Taken for granted: there is one right set of weights.", zh="隐含的前提：正确的权重只有一组。"),
            Source("003", "IV.15"),
            note=Text(
                en="The question does not say so; it is easily read that way.",
                zh="原题并没有这样说，但容易这样理解。",
            ),
        ),
    )
    prediction = Text(
        en="By back-propagation alone: the gradient of the loss by a score is a_j (g_j - sum of a_k g_k), where g_j says how much value j would "
        "raise the loss. A score grows if its value is better than the present mixture. Which head does it is a matter of chance.",
        zh="只靠反向传播：损失对打分的梯度为 a_j(g_j − Σ a_k g_k)，g_j 表示取第 j 个值会使损失上升多少。某个值若好过当前的混合，它的打分就上升。"
        "由哪个头来完成则带有偶然性。",
    )
    criterion = Text(
        en="learned: supported if the closed form agrees with autograd to 1e-10, the weight on the asked pair's value ends at 0.9 or more in a "
        "model of one head for every seed, and the sign of the advantage foretells the sign of the next change of that score in at least 80 % "
        "of the steps before that (whole 95 % interval over the seeds); refuted if the closed form fails; inconclusive otherwise. unique: "
        "refuted if, among models of four heads that learned the lookup (loss below 0.2 nats), at least two different heads win, else "
        "inconclusive.",
        zh="学到：若闭式与自动微分相差不超过 1e-10，每个种子中单头模型对正确值的权重最终不低于 0.9，且此前至少 80% 的记录步中优势的符号预示了该打分"
        "下一步变化的符号（各种子间的整个 95% 区间），则成立；闭式不符则不成立；其余为尚无定论。唯一：若在学会查找（损失低于 0.2 奈特）的四头模型中，"
        "至少有两个不同的头胜出，则不成立，否则尚无定论。",
    )
    parts = ("clearhead.model.attention.dot:Dot", "clearhead.model.attention.base:masked_softmax")
    references = (
        "Vaswani et al., 2017, arXiv:1706.03762, section 3.2",
        "Bahdanau, Cho and Bengio, 2015, arXiv:1409.0473, section 3.1",
    )

    def cells(self, scale: Scale) -> Iterable[Cell]:
        yield {"part": "gradient", "cases": scale.pick(quick=20, full=100)}
        for seed in scale.seeds(quick=1, full=24):
            yield {"part": "dynamics", "heads": 1, "updates": scale.pick(quick=100, full=300), "seed": seed}
        for seed in scale.seeds(quick=1, full=8):
            yield {"part": "heads", "heads": 4, "updates": scale.pick(quick=100, full=SURE.updates), "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        if cell["part"] == "gradient":
            return [{"error": _closed_form_error(number)} for number in range(int(cell["cases"] or 0))]
        every = EVERY if cell["part"] == "dynamics" else int(cell["updates"] or 0)
        return _dynamics(int(cell["heads"] or 0), int(cell["updates"] or 0), every, int(cell["seed"] or 0))

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        error = max(rows.column("error", part="gradient"))
        runs = _runs(rows)
        mass = min(run.column("mass")[-1] for run in runs)
        share = interval([_foretold(run) for run in runs])
        ends = _ends(rows)
        winners = [_winner(end) for end in ends if end.mean("loss") < SOLVED]
        heads = set(winners)
        learned = mass >= FOUND and share.low >= FORETOLD
        verdict = (Verdict.SUPPORTED if learned else Verdict.INCONCLUSIVE) if error < EXACT else Verdict.REFUTED
        return {
            "learned": Judgement(
                verdict,
                Text(
                    en=f"The closed form is off by {error:.0e}. The weight on the right value ends at {mass:.2f} or more; the advantage foretells "
                    f"the direction of {share} of the changes.",
                    zh=f"闭式误差 {error:.0e}。对正确值的权重最终不低于 {mass:.2f}；变化方向被优势的符号预示的比例为 {share}。",
                ),
            ),
            "unique": Judgement(
                Verdict.REFUTED if len(heads) > 1 else Verdict.INCONCLUSIVE,
                Text(
                    en=f"{len(winners)} of {len(ends)} models with 4 heads learned the lookup; in them {len(heads)} different heads look hardest at "
                    "the right value.",
                    zh=f"{len(ends)} 个四头模型中有 {len(winners)} 个学会了查找；其中对正确值权重最大的头共有 {len(heads)} 种。",
                ),
            ),
        }

    def answer(self, rows: Rows) -> Answer:
        runs = _runs(rows)
        first = sum(run.column("mass")[0] for run in runs) / len(runs)
        last = sum(run.column("mass")[-1] for run in runs) / len(runs)
        return Answer(
            short=Text(
                en="Nothing but the loss of the task teaches attention. Its gradient raises a score when that value would lower the loss more "
                f"than the present mixture does, and lowers it otherwise. In a lookup the weight on the right value goes from {first:.2f} to "
                f"{last:.2f} that way, on average. Which head of several does the work is not laid down by the loss.",
                zh=f"教会注意力的只有任务的损失。某个值若比当前的混合更能降低损失，梯度就使它的打分上升，否则下降。查找任务中，对正确值的权重就这样"
                f"平均从 {first:.2f} 变为 {last:.2f}。多个头中由哪一个来完成，损失并未规定。",
            ),
            imprecise=Text(
                en="Better is measured by the loss alone. Exchanging two heads with their weights gives the same model, so no head is "
                "the right one, and one map of weights is not the only explanation.",
                zh="所谓“更好”只由损失衡量。把两个头连同参数对调，得到的是同一个模型，因此没有哪个头才是“正确”的，单独一张权重图也不是唯一的解释。",
            ),
            limits=Text(
                en=f"A lookup among 4 pairs, 2 layers, {len(runs)} seed(s); the second layer is looked at.",
                zh=f"4 对键值的查找任务，两层，{len(runs)} 个随机种子；观察的是第二层。",
            ),
            caption=Text(
                en="Weight of the only head on the right value, one line a seed, mean in bold.",
                zh="唯一的头对正确值的权重，每个种子一条线，粗线为平均。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (axes,) = panels(1, width=6.0)
        runs = _runs(rows)
        for run in runs:
            axes.plot(run.column("update"), run.column("mass"), color="#AAAAAA", linewidth=0.8)
        updates = runs[0].column("update")
        line(
            axes, updates, [interval([run.column("mass")[i] for run in runs]).mean for i in range(len(updates))], "mean"
        )
        threshold(axes, FOUND, "criterion")
        axes.set_ylim(0, 1.02)
        axes.legend(loc="lower right")
        label(axes, x="updates", y="weight on the right value")
        return figure


def _closed_form_error(number: int) -> float:
    """The gradient by the scores of one query over 12 keys: closed form against autograd."""
    generator = torch.Generator().manual_seed(number)
    kernel = Dot(1, 8, 0.0)
    query, key, value = torch.randn(3, 1, 1, 12, 8, generator=generator, dtype=torch.float64)
    above = torch.randn(1, 1, 12, 8, generator=generator, dtype=torch.float64)  # gradient of the output
    asking = query.requires_grad_()
    (found,) = torch.autograd.grad(kernel(asking, key, value, OPEN, UNRELATED), asking, above)
    weights = kernel.weights(query.detach(), key, OPEN, UNRELATED)
    gain = above @ value.transpose(-1, -2)  # g, (1, 1, queries, keys)
    by_score = weights * (gain - (weights * gain).sum(dim=-1, keepdim=True))
    return float((found - kernel.scale * by_score @ key).abs().max())


def _dynamics(heads: int, updates: int, every: int, seed: int) -> Iterable[Row]:
    """What each head of the second layer does at the question, every few updates."""
    recall = lookup()
    model, probe = build(reader({"heads": heads}), seed), examples(recall, PROBES, seed, "probe")
    plan = replace(SURE, updates=updates)
    yield from _looked(model, probe, 0)
    for step in train(model, recall, plan, seed):
        if step.number % every == 0:
            yield from _looked(model, probe, step.number)


def _looked(model: Transformer, probe: Samples, update: int) -> Iterable[Row]:
    """Weight, score and advantage of the asked pair's value for each head, means over the probe."""
    seen: dict[str, Any] = {}

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        seen.update(kernel=module, inputs=inputs, output=output)

    hook = model.decoder.blocks[-1].attention.kernel.register_forward_hook(keep)  # type: ignore[union-attr,index]
    loss = loss_of(logits(model, probe), probe.labels)
    hook.remove()
    loss.backward()  # type: ignore[no-untyped-call]
    model.zero_grad()
    query, key, value, mask, relation = seen["inputs"]
    with torch.no_grad():
        weights = seen["kernel"].weights(query, key, mask, relation)[:, :, -1]  # (batch, heads, keys)
        scores = seen["kernel"].scores(query, key)[:, :, -1]
        gain = torch.einsum("bhd,bhkd->bhk", seen["output"].grad[:, :, -1], value)
    place = _asked(probe)[:, None, None].expand(-1, weights.shape[1], 1)
    advantage = (weights * gain).sum(dim=-1, keepdim=True) - gain
    above = scores - scores.mean(dim=-1, keepdim=True)
    means = [each.gather(2, place)[..., 0].mean(dim=0).tolist() for each in (weights, advantage, above)]
    for head, (mass, better, score) in enumerate(zip(*means, strict=True)):
        yield {
            "update": update,
            "head": head,
            "mass": mass,
            "advantage": better,
            "score": score,
            "loss": float(loss.detach()),
        }


def _asked(probe: Samples) -> Tensor:
    """(batch,) the place of the value that stands beside the asked key."""
    tokens = probe.tokens
    keys = tokens[:, 0:-1:2]  # (batch, pairs)
    return 2 * (keys == tokens[:, -1:]).long().argmax(dim=1) + 1


def _runs(rows: Rows) -> list[Rows]:
    """The rows of each run with one head."""
    dynamics = rows.where(part="dynamics")
    return [dynamics.where(seed=seed) for seed in dynamics.distinct("seed")]


def _ends(rows: Rows) -> list[Rows]:
    """What the heads of each model with four of them do in the end."""
    heads = rows.where(part="heads")
    last = int(max(heads.column("update")))
    return [heads.where(seed=seed, update=last) for seed in heads.distinct("seed")]


def _winner(end: Rows) -> int:
    """The head that looks hardest at the right value."""
    return int(max(end, key=lambda row: float(row["mass"] or 0))["head"] or 0)


def _foretold(run: Rows) -> float:
    """The share of steps, until the slot is found, in which the score moves the way its advantage points."""
    hits = [
        (float(after["score"] or 0) > float(now["score"] or 0)) == (float(now["advantage"] or 0) > 0)
        for now, after in pairwise(run)
        if float(now["mass"] or 0) < FOUND
    ]
    return sum(hits) / max(len(hits), 1)
