"""Classification of texts, or of pairs of texts (Devlin et al., 2018, arXiv:1810.04805, section 4.1)."""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from clearhead.data.text_batches import LabelledBatch
from clearhead.model import Transformer
from clearhead.train.objectives.base import OBJECTIVES, Loss, Objective


@OBJECTIVES.register("classification")
class Classification(Objective):
    """-log p(class | text), with label smoothing if wanted; the mean over texts.

    Args:
        label_smoothing: share of probability spread evenly over all classes.
    """

    task = "labels"
    kinds = ("encoder-only", "decoder-only")
    heads = ("classify",)

    def __init__(self, *, label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, model: Transformer, batch: LabelledBatch) -> Loss:
        scores = class_scores(model, batch)
        value = F.cross_entropy(scores, batch.labels, reduction="sum", label_smoothing=self.label_smoothing)
        right = (scores.argmax(dim=1) == batch.labels).to(value.dtype).sum()
        return Loss(value, batch.tokens, {"accuracy": right})


def class_scores(model: Transformer, batch: LabelledBatch) -> Tensor:
    """Scores of the classes, (batch, labels), in float32 at least."""
    if model.config.kind == "decoder-only":
        hidden = model.decode(batch.ids, valid=batch.valid)
    else:
        hidden = model.encode(batch.ids, batch.valid, segments=batch.types).hidden
    scores = model.logits(hidden, batch.valid)
    return scores if scores.dtype.itemsize >= 4 else scores.float()
