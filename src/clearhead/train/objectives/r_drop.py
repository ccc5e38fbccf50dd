"""Translation read twice: two dropout masks, one distribution (Liang et al., 2021)."""

from typing import Annotated

import torch
from pydantic import Field, FiniteFloat

from clearhead.data.batches import TranslationBatch
from clearhead.model import Transformer
from clearhead.train.objectives.base import OBJECTIVES, Loss, Objective
from clearhead.train.objectives.likelihood import read_pairs, smoothed_likelihood


@OBJECTIVES.register("r_drop")
class RDrop(Objective):
    """Half of [ -log p1 - log p2 + alpha (KL(p1 || p2) + KL(p2 || p1)) / 2 ] for each target token.

    p1 and p2 are what two passes with dropout make of the same token; labels are smoothed as in `translation`. Source:
    Liang et al., 2021, arXiv:2106.14448, equation 4, halved, so that a model without dropout has the loss that it has
    under `translation`. Two passes take twice the time: where time is short, one pass of twice as many texts may teach
    more (docs/log.md).

    Args:
        label_smoothing: share of probability spread evenly over all words.
        alpha: weight of the distance; 5 in the paper's translations.
    """

    def __init__(
        self,
        *,
        label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1,
        alpha: Annotated[FiniteFloat, Field(gt=0.0)] = 5.0,
    ) -> None:
        self.label_smoothing, self.alpha = label_smoothing, alpha

    def __call__(self, model: Transformer, batch: TranslationBatch) -> Loss:
        hidden = read_pairs(model, _twice(batch))
        passes = torch.stack(hidden.chunk(2), dim=2)  # (batch, target, 2, d_model)
        states, labels = passes[batch.counted].flatten(0, 1), batch.labels[batch.counted].repeat_interleave(2)
        value, plain = smoothed_likelihood(model.head, states, labels, self.label_smoothing, self.alpha)
        return Loss(value / 2, batch.tokens, {"nll": plain / 2})


def _twice(batch: TranslationBatch) -> TranslationBatch:
    source, target, labels, counted = (
        torch.cat([each, each]) for each in (batch.source, batch.target, batch.labels, batch.counted)
    )
    valid = None if batch.source_valid is None else torch.cat([batch.source_valid, batch.source_valid])
    return TranslationBatch(source, valid, target, labels, counted)
