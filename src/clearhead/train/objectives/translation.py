"""Teacher-forced translation with label smoothing (Vaswani et al., 2017, section 5.4)."""

from typing import Annotated

from pydantic import Field

from clearhead.data.batches import TranslationBatch
from clearhead.model import Transformer
from clearhead.train.objectives.base import OBJECTIVES, Loss, Objective
from clearhead.train.objectives.likelihood import read_pairs, smoothed_likelihood


@OBJECTIVES.register("translation")
class Translation(Objective):
    """-log p(target | source), each target token given the reference before it; padding does not count."""

    def __init__(self, *, label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, model: Transformer, batch: TranslationBatch) -> Loss:
        hidden = read_pairs(model, batch)
        states, labels = hidden[batch.counted], batch.labels[batch.counted]
        value, plain = smoothed_likelihood(model.head, states, labels, self.label_smoothing)
        return Loss(value, batch.tokens, {"nll": plain})
