"""Translation learned from the text and from a trained model's probabilities (Kim and Rush, 2016, section 3.1)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from clearhead.bundle import Bundle
from clearhead.core.errors import CheckpointError, ModelError
from clearhead.core.files import write_atomic
from clearhead.data.batches import TranslationBatch
from clearhead.model import Transformer
from clearhead.text import Tokenizer
from clearhead.train.linear_cross_entropy import Teacher
from clearhead.train.objectives.base import OBJECTIVES, Loss, Objective
from clearhead.train.objectives.likelihood import linear_map, read_pairs, smoothed_likelihood

KEPT = "teacher.sha256"  # file of a run folder: which teacher it began with


@OBJECTIVES.register("distillation")
class Distillation(Objective):
    """Cross-entropy against (1 - share) of the smoothed label and `share` of the teacher's distribution, at each token.

    The teacher reads the same reference, without dropout, and is not trained. A student that is smaller than its
    teacher keeps more of its quality than one that learns from the text alone; one of the same size often
    becomes better than its teacher (Furlanello et al., 2018, arXiv:1805.04770). An update takes longer by one
    forward pass of the teacher. Each process holds all of the teacher.

    Args:
        teacher: folder of the bundle of an encoder-decoder with the tokenizers of this run, as seen from where the
            command is given.
        share: of the teacher.
        label_smoothing: of the labels' share, what is spread evenly over all words.

    Raises:
        BundleError: the teacher is missing or damaged.
        ModelError: it does not go with this run.
        CheckpointError: it is not the one that a resumed run began with.
    """

    def __init__(
        self,
        *,
        teacher: str,
        share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5,
        label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1,
    ) -> None:
        self.folder, self.share, self.label_smoothing = Path(teacher), share, label_smoothing
        self.bundle: Bundle | None = None
        self.sha256 = ""

    @property
    def companions(self) -> Sequence[Transformer]:  # type: ignore[override]
        return () if self.bundle is None else (self.bundle.model,)

    def fetch(self, out: Path) -> None:
        if self.folder.resolve() == out.resolve():
            remedy = "train the teacher first, in a folder of its own"
            raise ModelError("a run cannot be its own teacher", where=self.folder, remedy=remedy)
        with torch.random.fork_rng(devices=[]):  # the student begins as it would without a teacher
            bundle = Bundle.load(self.folder)
        if bundle.model.config.kind != "encoder-decoder":
            remedy = "name the folder of a model that translates"
            raise ModelError("this teacher does not translate", where=self.folder, remedy=remedy)
        bundle.model.requires_grad_(requires_grad=False)
        self.bundle = bundle
        self.sha256 = hashlib.sha256((self.folder / "model.safetensors").read_bytes()).hexdigest()

    def settle(self, source: Tokenizer, target: Tokenizer, out: Path) -> None:
        assert self.bundle is not None
        theirs, kept = self.bundle, out / KEPT
        frame: tuple[list[int], list[int]] = ([], [source.need("eos")])
        if (theirs.source, theirs.target, theirs.source_frame) != (source, target, frame):
            remedy = "train both with the same data and the same keys under tokenizer"
            raise ModelError("the teacher has other tokenizers than this run", where=self.folder, remedy=remedy)
        if not kept.exists():
            write_atomic(kept, self.sha256 + "\n")
        elif kept.read_text(encoding="utf-8").strip() != self.sha256:
            remedy = "put the old one back, or start anew in another --out"
            raise CheckpointError("the teacher is not the one this run began with", where=self.folder, remedy=remedy)

    def history(self) -> dict[str, Any]:
        return {"teacher_sha256": self.sha256}

    def __call__(self, model: Transformer, batch: TranslationBatch) -> Loss:
        hidden = read_pairs(model, batch)
        states, labels = hidden[batch.counted], batch.labels[batch.counted]
        taught = self._taught(batch)
        value, plain = smoothed_likelihood(model.head, states, labels, self.label_smoothing, teacher=taught)
        return Loss(value, batch.tokens, {"nll": plain})

    @torch.no_grad()
    def _taught(self, batch: TranslationBatch) -> Teacher:
        """What the teacher says of each target token."""
        (teacher,) = self.companions
        if teacher.output.device != batch.source.device:
            teacher.to(batch.source.device)
        hidden = read_pairs(teacher, batch)
        return Teacher(*linear_map(teacher.head, hidden[batch.counted]), self.share)
