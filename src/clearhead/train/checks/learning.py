"""Gradients must not depend on how they are computed."""

import copy

import torch
from torch import Tensor

from clearhead.model import Transformer
from clearhead.model.recompute import recompute
from clearhead.train.checks.base import CHECKS, Check, Probe, apart, last_stack
from clearhead.train.checks.texts import Batch, Rows
from clearhead.train.linear_cross_entropy import linear_cross_entropy


@CHECKS.register("accumulated")
class Accumulated(Check):
    """Gradients summed over texts one by one, against those of all texts in one batch."""

    title = "accumulated gradients = gradients of one large batch"

    def difference(self, probe: Probe) -> float:
        parts = list(zip(probe.sources.alone(), probe.targets.alone(), strict=True))
        model = copy.deepcopy(probe.model)
        return apart(_gradient(model, parts), _gradient(model, [(probe.sources, probe.targets)]))


@CHECKS.register("recomputed")
class Recomputed(Check):
    """Gradients with activations computed anew in the backward pass, against plain ones, both with dropout."""

    title = "recomputed gradients = plain gradients"

    def difference(self, probe: Probe) -> float:
        batch, found = [(probe.sources, probe.targets)], []
        for prepare in (recompute, lambda model: None):
            model = copy.deepcopy(probe.model).train()
            prepare(model)
            torch.manual_seed(1)
            found.append(_gradient(model, batch))
        return apart(*found)


def _gradient(model: Transformer, batches: list[tuple[Rows, Rows]]) -> Tensor:
    """The gradient of the training loss summed over batches, all parameters as one vector."""
    model.requires_grad_(requires_grad=True).zero_grad()
    for sources, targets in batches:
        hidden, read = last_stack(model, sources.right(), targets.right())
        _loss(model, hidden, read).backward()  # type: ignore[no-untyped-call]
    return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])


def _loss(model: Transformer, hidden: Tensor, read: Batch) -> Tensor:
    """Cross-entropy summed over the tokens, or the texts where the head pools; any label would do."""
    features, labels = model.head.transform(hidden, read.valid), read.ids % len(model.head.matrix)
    pooled = features.dim() == 2
    rows, right = (features, labels[:, 0]) if pooled else (features[read.valid], labels[read.valid])
    return linear_cross_entropy(rows, model.head.matrix, right)[0]
