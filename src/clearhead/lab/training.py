"""The standard run of the lab: a small Transformer of the package learns a synthetic task in some hundred updates.

recall = task("recall", {"pairs": 8})
model = build(decoder(recall.vocab, {"residual": "post"}), seed)
for step in train(model, recall, Plan(updates=400), seed): ...
score(model, recall, seed).accuracy
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearhead.core.registry import Choice
from clearhead.core.seeds import derive
from clearhead.data.synthetic import IGNORED, TASKS, Samples, Task
from clearhead.model import Memory, ModelConfig, Transformer
from clearhead.train.schedules import SCHEDULES

SMALL: Mapping[str, Any] = {"d_model": 32, "heads": 4, "d_ff": 128, "dropout": 0.0, "residual": "pre", "tie": "none"}


@dataclass(frozen=True)
class Plan:
    """How a model is trained."""

    updates: int = 400
    batch: int = 32  # examples of an update
    rate: float = 3e-3  # peak learning rate
    warmup: int = 40  # updates
    schedule: str = "cosine"
    weight_decay: float = 0.0
    clip: float = 1.0  # largest norm of the gradients


@dataclass(frozen=True)
class Step:
    """One update, seen right after it."""

    number: int  # from 1
    loss: float  # nats per asked label, of the batch before the update
    gradient_norm: float  # before clipping


@dataclass(frozen=True)
class Score:
    """How well a model does on fresh examples."""

    loss: float  # nats per asked label
    accuracy: float  # share of the asked labels that are the likeliest
    exact: float  # share of examples whose asked labels are all right


def task(kind: str, options: Mapping[str, Any] | None = None) -> Task:
    """A synthetic task by its name and options."""
    return TASKS.build(Choice(kind=kind, options=dict(options or {})))


def decoder(vocab: int, changes: Mapping[str, Any] | None = None) -> ModelConfig:
    """A decoder-only model of the standard size (2 layers); `changes` are keys of ModelConfig."""
    return _small({"encoder_layers": 0, "decoder_layers": 2, "target_vocab": vocab}, changes)


def encoder(vocab: int, changes: Mapping[str, Any] | None = None) -> ModelConfig:
    """An encoder-only model of the standard size (2 layers); the head `classify` makes it a classifier."""
    return _small({"encoder_layers": 2, "decoder_layers": 0, "source_vocab": vocab}, changes)


def encoder_decoder(vocab: int, changes: Mapping[str, Any] | None = None) -> ModelConfig:
    """An encoder-decoder of the standard size (1 + 1 layers) with one vocabulary."""
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "source_vocab": vocab, "target_vocab": vocab}
    return _small(sizes, changes)


def _small(sizes: Mapping[str, Any], changes: Mapping[str, Any] | None) -> ModelConfig:
    return ModelConfig.model_validate({**SMALL, **sizes, **(changes or {})})


def build(config: ModelConfig, seed: int) -> Transformer:
    """A model whose weights depend on the seed alone, so that variants are paired by it."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "weights"))
        return Transformer(config)


def examples(task: Task, count: int, seed: int, *purpose: object) -> Samples:
    """Fresh examples for one purpose; training, validation and probes never share a stream."""
    return task.draw(count, torch.Generator().manual_seed(derive(seed, "examples", *purpose)))


def logits(model: Transformer, samples: Samples) -> Tensor:
    """(batch, length, vocab) or (batch, classes): what the model says of the samples."""
    if model.config.kind == "encoder-only":
        memory = model.encode(samples.tokens, samples.valid)
        return model.logits(memory.hidden, samples.valid)
    return model.logits(model.decode(samples.tokens, memory_of(model, samples), valid=samples.valid))


def memory_of(model: Transformer, samples: Samples) -> Memory | None:
    """What the encoder makes of the source; None for a model without one."""
    if model.config.kind != "encoder-decoder":
        return None
    assert samples.source is not None, "an encoder-decoder needs samples with a source"
    return model.encode(samples.source, samples.source_valid)


def loss_of(scores: Tensor, labels: Tensor) -> Tensor:
    """Nats per asked label, (); `scores` are (..., vocab) and `labels` (...)."""
    return F.cross_entropy(scores.flatten(0, -2), labels.flatten(), ignore_index=IGNORED)


def fit(model: nn.Module, loss: Callable[[torch.Generator], Tensor], plan: Plan, seed: int) -> Iterator[Step]:
    """Train in place with AdamW; yields after every update, so that a question may look in between.

    Args:
        model: whose parameters that want a gradient are trained; put into training mode.
        loss: draws a batch from the generator and returns its loss, ().
        plan: updates, rate, schedule.
        seed: of the batches.

    A loss that is not finite ends the run after the step that shows it.
    """
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=plan.rate, betas=(0.9, 0.98), weight_decay=plan.weight_decay)
    schedule = SCHEDULES.build(Choice(kind=plan.schedule, options={"warmup": plan.warmup}), 1.0, plan.updates, 1)
    generator = torch.Generator().manual_seed(derive(seed, "training"))
    model.train()
    for number in range(1, plan.updates + 1):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * schedule(number)
        optimizer.zero_grad(set_to_none=True)
        value = loss(generator)
        value.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(parameters, plan.clip))
        optimizer.step()
        yield Step(number, float(value.detach()), norm)
        if not torch.isfinite(value):
            return


def train(model: Transformer, task: Task, plan: Plan, seed: int) -> Iterator[Step]:
    """`fit` on fresh examples of a task."""

    def loss(generator: torch.Generator) -> Tensor:
        samples = task.draw(plan.batch, generator)
        return loss_of(logits(model, samples), samples.labels)

    return fit(model, loss, plan, seed)


def trained(config: ModelConfig, task: Task, plan: Plan, seed: int) -> Transformer:
    """A model after its standard run, in eval mode."""
    model = build(config, seed)
    for _ in train(model, task, plan, seed):
        pass
    return model.eval()


@torch.no_grad()
def score(model: Transformer, task: Task, seed: int, count: int = 512) -> Score:
    """Loss and accuracy on fresh examples, in eval mode; the model returns to the mode it was in."""
    before = model.training
    model.eval()
    samples = examples(task, count, seed, "score")
    said = logits(model, samples)
    model.train(before)
    asked = samples.labels != IGNORED
    right = (said.argmax(dim=-1) == samples.labels) | ~asked
    accuracy = float((right & asked).sum() / asked.sum())
    return Score(
        float(loss_of(said, samples.labels)), accuracy, float(right.reshape(len(samples), -1).all(dim=1).float().mean())
    )
