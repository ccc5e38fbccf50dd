"""Translation learned from the text and from a trained model's probabilities (Kim and Rush, 2016, section 3.1)."""

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from clearhead.bundle import Bundle
from clearhead.core.errors import ModelError
from clearhead.data.batches import TranslationBatch
from clearhead.model import Transformer
from clearhead.text import Tokenizer
from clearhead.train.linear_cross_entropy import Teacher
from clearhead.train.objectives.base import OBJECTIVES, Loss, Objective
from clearhead.train.objectives.likelihood import linear_map, smoothed_likelihood


@OBJECTIVES.register("distillation")
class Distillation(Objective):
    """Cross-entropy against (1 - share) of the smoothed label and `share` of the teacher's distribution, at each token.

    The teacher reads the same reference, without dropout, and is not trained. A student that is smaller than its
    teacher keeps more of its quality than one that learns from the text alone; one of the same size often
    becomes better than its teacher (Furlanello et al., 2018, arXiv:1805.04770). An update takes about a third longer.

    Args:
        teacher: folder of the bundle of an encoder-decoder with the tokenizers of this run.
        share: of the teacher.
        label_smoothing: of the labels' share, what is spread evenly over all words.

    Raises:
        BundleError, ModelError: the teacher is damaged, or does not go with this run.
    """

    def __init__(
        self,
        *,
        teacher: str,
        share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5,
        label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1,
    ) -> None:
        self.folder, self.share, self.label_smoothing = Path(teacher), share, label_smoothing
        self.teacher: Transformer | None = None

    def prepare(self, source: Tokenizer, target: Tokenizer) -> None:
        bundle = Bundle.load(self.folder)
        if not (bundle.model.config.encoder_layers and bundle.model.config.decoder_layers):
            raise ModelError("a teacher of translation is an encoder-decoder", where=self.folder)
        if (bundle.source, bundle.target) != (source, target):
            remedy = "train both with the same data and tokenizer keys"
            raise ModelError("the teacher has other tokenizers than this run", where=self.folder, remedy=remedy)
        self.teacher = bundle.model.requires_grad_(requires_grad=False)

    def __call__(self, model: Transformer, batch: TranslationBatch) -> Loss:
        padding = batch.counted if model.config.norm_across_tokens else None
        hidden = model(batch.source, batch.target, source_valid=batch.source_valid, target_valid=padding)
        states, labels = hidden[batch.counted], batch.labels[batch.counted]
        value, plain = smoothed_likelihood(
            model.head, states, labels, self.label_smoothing, teacher=self._taught(batch)
        )
        return Loss(value, batch.tokens, {"nll": plain})

    @torch.no_grad()
    def _taught(self, batch: TranslationBatch) -> Teacher:
        """What the teacher says of each target token."""
        assert self.teacher is not None, "prepare was not called"
        teacher = self.teacher
        if teacher.output.device != batch.source.device:
            teacher.to(batch.source.device)
        padding = batch.counted if teacher.config.norm_across_tokens else None
        hidden = teacher(batch.source, batch.target, source_valid=batch.source_valid, target_valid=padding)
        return Teacher(*linear_map(teacher.head, hidden[batch.counted]), self.share)
