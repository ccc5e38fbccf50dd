"""Where is attention used in a Transformer of one encoder and one decoder layer, and what is each place for?"""

from collections.abc import Iterable, Mapping

import torch
from matplotlib.figure import Figure
from torch import nn

from clearhead.data.synthetic import Task
from clearhead.lab.parts.silenced import silenced
from clearhead.lab.pictures import grouped, label, panels, threshold
from clearhead.lab.question import QUESTIONS, Answer, Claim, Judgement, Question, Source, Text, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.statistics import Interval, interval
from clearhead.lab.training import Plan, build, encoder_decoder, examples, logits, score, task, train
from clearhead.model import Transformer
from clearhead.model.attention.multihead import MultiHead
from clearhead.model.recorder import recording

SITES = {
    "encoder self-attention": "encoder.blocks.0.attention",
    "decoder self-attention": "decoder.blocks.0.attention",
    "cross-attention": "decoder.blocks.0.cross",
}
CHINESE = {
    "encoder self-attention": "编码器自注意力",
    "decoder self-attention": "解码器自注意力",
    "cross-attention": "交叉注意力",
}
PAIRS = 2_000


@QUESTIONS.register("attention-sites")
class AttentionSites(Question):
    """A record of all attention calls; then each is silenced, after training and in training."""

    topic = "attention"
    title = Text(
        en="With one encoder and one decoder layer, where is attention used and what is each place for?",
        zh="只有一层编码器和一层解码器时，哪些地方用到注意力？各有什么作用？",
    )
    sources = (Source("003", "IV.8"), Source("003", "V.3"))
    claims = (
        Claim(
            "three-places",
            Text(
                en="Attention is used in several places with different functions.",
                zh="注意力用在多个地方，作用各不相同。",
            ),
            Source("003", "IV.8"),
        ),
    )
    prediction = Text(
        en="In three places: encoder self-attention, masked decoder self-attention, cross-attention. Without the last a translation knows "
        "nothing of its source; without the first two the model still translates, but worse.",
        zh="三处：编码器自注意力、带遮挡的解码器自注意力、交叉注意力。没有最后一处，译文与源句无关；没有前两处，模型仍能翻译，但变差。",
    )
    criterion = Text(
        en="Supported if exactly three calls are seen, silencing cross-attention makes the output independent of the source (exactly 0), and "
        "a model trained without any one of the three has a higher test loss than the full one, paired by seed with 95 % intervals above 0; "
        "depends if a model trained without one of the three has a lower loss (interval below 0); refuted if the number of calls is not three "
        "or the output still changes with the source; else inconclusive.",
        zh="若恰好看到三次调用，关掉交叉注意力后输出与源句完全无关（恰为 0），且训练时缺少任何一处都使测试损失高于完整模型（按种子配对，95% 区间在 0 以上），"
        "则成立；若去掉其中一处后损失反而更低（区间在 0 以下），则视情况而定；调用次数不是三次，或输出仍随源句变化，"
        "则不成立；否则尚无定论。",
    )
    parts = (
        "clearhead.model.attention.multihead:SelfAttention",
        "clearhead.model.attention.multihead:CrossAttention",
    )
    references = ("Vaswani et al., 2017, arXiv:1706.03762, section 3.2.3",)

    def cells(self, scale: Scale) -> Iterable[Cell]:
        updates = scale.pick(quick=30, full=400)
        for seed in scale.seeds(quick=1, full=3):
            yield {"part": "full", "site": "none", "updates": updates, "seed": seed}
            for site in SITES:
                yield {"part": "retrained", "site": site, "updates": updates, "seed": seed}

    def measure(self, cell: Cell) -> Iterable[Row]:
        seed, site = int(cell["seed"] or 0), str(cell["site"])
        model = build(encoder_decoder(_pairs("train").vocab, {"position": "rope"}), seed)
        plan = Plan(updates=int(cell["updates"] or 0), batch=64, rate=1e-2)
        if site != "none":
            with silenced([_module(model, site)]):
                return [_trained(model, plan, seed)]
        rows: list[Row] = [{**_trained(model, plan, seed), "calls": _calls(model, seed)}]
        for each in SITES:
            with silenced([_module(model, each)]):
                rows.append({"after": each, **_scored(model, seed), "depends": _depends(model, seed)})
        return rows

    def judge(self, rows: Rows) -> Mapping[str, Judgement]:
        calls = {int(each) for each in rows.column("calls")}
        blind = max(rows.column("depends", after="cross-attention"))
        harm = {site: _harm(rows, site) for site in SITES}
        needed = [site for site, each in harm.items() if each.above]
        if calls != {len(SITES)} or blind > 0.0:
            verdict = Verdict.REFUTED
        elif len(needed) == len(SITES):
            verdict = Verdict.SUPPORTED
        else:
            verdict = Verdict.DEPENDS if any(each.below for each in harm.values()) else Verdict.INCONCLUSIVE
        return {
            "three-places": Judgement(
                verdict,
                Text(
                    en=f"Calls: {', '.join(map(str, calls))}. Without cross-attention the output changes by {blind:g} with the source. Test loss "
                    "when trained without, minus that of the full model: "
                    + ", ".join(f"{site} {each}" for site, each in harm.items())
                    + " nats.",
                    zh=f"调用次数：{'、'.join(map(str, calls))}。没有交叉注意力时，输出随源句的变化为 {blind:g}。训练时就没有它的模型，测试损失减去完整模型的："
                    + "，".join(f"{CHINESE[site]} {each}" for site, each in harm.items())
                    + " 奈特。",
                ),
            )
        }

    def answer(self, rows: Rows) -> Answer:
        full = rows.having("calls").mean("accuracy")
        after = {site: rows.mean("accuracy", after=site) for site in SITES}
        again = {site: rows.mean("accuracy", part="retrained", site=site) for site in SITES}
        return Answer(
            short=Text(
                en="Three places. Encoder self-attention gives each source word its context, decoder self-attention tells what has been said, "
                "cross-attention fetches from the source. Right words when it is silenced after training "
                "(in brackets: in a model that never had it): "
                + ", ".join(f"{site} {after[site]:.0%} ({again[site]:.0%})" for site in SITES)
                + ".",
                zh="三处。编码器自注意力为源句的每个词提供上下文，解码器自注意力说明已经译出了什么，交叉注意力从源句取信息。训练后关掉它时"
                "预测正确的词（括号内：训练时就没有它）："
                + "，".join(f"{CHINESE[site]} {after[site]:.0%}（{again[site]:.0%}）" for site in SITES)
                + "。",
            ),
            imprecise=Text(
                en=f"What a part does after training and what it is needed for are two questions: the full model has {full:.0%} of the words right; "
                "a model that was trained without a part may have found other ways.",
                zh=f"训练之后某部分在做什么，与是否需要它，是两个问题：完整模型的正确率为 {full:.0%}，而训练时就缺少某部分的模型可能另有办法。",
            ),
            limits=Text(
                en=f"Translation between two small invented languages with given prefixes, {PAIRS:,} pairs, width 32, "
                f"{len(rows.distinct('seed'))} seed(s); kinds of errors are not told apart.",
                zh=f"两种小型人造语言之间、给定前文的翻译，{PAIRS:,} 个句对，宽度 32，{len(rows.distinct('seed'))} 个随机种子；没有区分错误类型。",
            ),
            caption=Text(
                en="Right words when an attention is silenced after training, and when it was never there.",
                zh="训练后关掉某处注意力，以及训练时就没有它，预测正确的词的比例。",
            ),
        )

    def draw(self, rows: Rows) -> Figure:
        figure, (axes,) = panels(1, width=6.5)
        after = [interval([100 * each for each in rows.column("accuracy", after=site)]) for site in SITES]
        again = [interval([100 * r for r in rows.column("accuracy", part="retrained", site=site)]) for site in SITES]
        grouped(axes, list(SITES), {"trained without": again, "silenced after training": after})
        threshold(axes, 100 * rows.having("calls").mean("accuracy"), "full model")
        axes.set_ylim(0, 115)
        axes.legend(fontsize=8, ncols=3, loc="upper center")
        label(axes, x="attention that is missing", y="right words (%)")
        return figure


def _pairs(split: str) -> Task:
    return task("toy_mt", {"pairs": PAIRS, "split": split, "form": "encoder_decoder"})


def _module(model: Transformer, site: str) -> nn.Module:
    return model.get_submodule(SITES[site])


def _trained(model: Transformer, plan: Plan, seed: int) -> Row:
    for _ in train(model, _pairs("train"), plan, seed):
        pass
    return _scored(model, seed)


def _scored(model: Transformer, seed: int) -> Row:
    found = score(model, _pairs("test"), seed)
    return {"loss": found.loss, "accuracy": found.accuracy}


@torch.no_grad()
def _calls(model: Transformer, seed: int) -> int:
    """Attention calls of one forward pass."""
    samples = examples(_pairs("test"), 2, seed, "calls")
    with recording(model) as record:
        logits(model.eval(), samples)
    assert all(isinstance(model.get_submodule(name), MultiHead) for name in record)
    return sum(len(each) for each in record.calls.values())


@torch.no_grad()
def _depends(model: Transformer, seed: int) -> float:
    """The most that outputs change when every source becomes another one."""
    samples = examples(_pairs("test"), 16, seed, "depends")
    assert samples.source is not None
    other = samples.source.roll(1, dims=0)
    valid = None if samples.source_valid is None else samples.source_valid.roll(1, dims=0)
    model.eval()
    before = model.decode(samples.tokens, model.encode(samples.source, samples.source_valid), valid=samples.valid)
    after = model.decode(samples.tokens, model.encode(other, valid), valid=samples.valid)
    return float((before - after).abs().max())


def _harm(rows: Rows, site: str) -> Interval:
    """Test loss of models trained without a site minus that of full ones, by seed."""
    full = {row["seed"]: float(row["loss"] or 0) for row in rows.having("calls")}
    return interval([float(r["loss"] or 0) - full[r["seed"]] for r in rows.where(part="retrained", site=site)])
