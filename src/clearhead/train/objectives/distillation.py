"""Translation learned from the text and from trained models' probabilities (Kim and Rush, 2016, section 3.1)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from clearhead.bundle import Bundle
from clearhead.core.errors import ConfigError, ModelError
from clearhead.data.batches import TranslationBatch
from clearhead.data.store import Store
from clearhead.model import Transformer
from clearhead.text import Tokenizer
from clearhead.train.linear_cross_entropy import Teacher
from clearhead.train.objectives.base import OBJECTIVES, Loss, Objective
from clearhead.train.objectives.likelihood import read_pairs, smoothed_likelihood
from clearhead.train.objectives.taught import Taught, write_taught
from clearhead.train.prepare import require_reach


@OBJECTIVES.register("distillation")
class Distillation(Objective):
    """Cross-entropy against (1 - share) of the smoothed label and `share` of the teacher's distribution, at each token.

    The teacher reads the same pair, as it is stored and without dropout, once and before the training; what it says is
    kept in the run folder, 2 bytes for each feature, each token of the targets and each teacher, and it is not needed
    again. Of several teachers the geometric mean is taken, which is often better than any of them. A student that is
    smaller than its teachers keeps more of their quality than one that learns from the text alone; one of the same size
    often becomes better than its teacher (Furlanello et al., 2018, arXiv:1805.04770).

    Args:
        teacher: folder of the bundle of an encoder-decoder with the tokenizers of this run, as seen from where the
            command is given; or a list of such folders.
        share: of the teachers.
        label_smoothing: of the labels' share, what is spread evenly over all words.

    Raises:
        BundleError: a teacher is missing or damaged.
        ModelError: it does not go with this run.
    """

    keeps_targets = True

    def __init__(
        self,
        *,
        teacher: str | list[str],
        share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5,
        label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1,
    ) -> None:
        self.folders = [Path(each) for each in ([teacher] if isinstance(teacher, str) else teacher)]
        if not self.folders:
            raise ConfigError("no teacher", where="objective.teacher", remedy="name the folder of a trained model")
        self.share, self.label_smoothing = share, label_smoothing
        self.teachers: list[Bundle] = []
        self.kept: Path | None = None
        self.taught: Taught | None = None
        self.matrix = torch.empty(0, 0)

    def fetch(self, out: Path) -> None:
        self.kept = out / "taught"
        if not self.kept.exists():
            self.teachers = [_teacher(folder, out) for folder in self.folders]

    def settle(self, source: Tokenizer, target: Tokenizer) -> None:
        frame: tuple[list[int], list[int]] = ([], [source.need("eos")])
        for each, folder in zip(self.teachers, self.folders, strict=False):
            if (each.source, each.target, each.source_frame) != (source, target, frame):
                remedy = "train both with the same data and the same keys under tokenizer"
                raise ModelError("the teacher has other tokenizers than this run", where=folder, remedy=remedy)

    def prepare(self, stores: Sequence[Store], device: torch.device, *, rehearsal: bool) -> None:
        assert self.kept is not None
        target = stores[1]
        if not self.kept.exists():
            models = [each.model.to(device) for each in self.teachers]
            for each in models:
                require_reach(list(stores), each.longest_target)
            about = {"teacher_sha256": [_sha256(each) for each in self.teachers]}
            tokenizer = self.teachers[0].target
            write_taught(self.kept, models, stores, tokenizer, device=device, about=about, rehearsal=rehearsal)
        self.teachers, self.taught = [], Taught(self.kept)
        self.taught.require(target)
        self.matrix = self.taught.matrix.to(device)

    def history(self) -> dict[str, Any]:
        return {} if self.taught is None else self.taught.about

    def __call__(self, model: Transformer, batch: TranslationBatch) -> Loss:
        if self.taught is None or batch.rows is None:
            raise ModelError("a student learns from the stores of a run only", remedy="start it by clearhead train")
        hidden = read_pairs(model, batch)
        states, labels = hidden[batch.counted], batch.labels[batch.counted]
        teacher = Teacher(self.taught.of(batch.rows).to(states.device), self.matrix, self.share)
        value, plain = smoothed_likelihood(model.head, states, labels, self.label_smoothing, teacher=teacher)
        return Loss(value, batch.tokens, {"nll": plain})


def _teacher(folder: Path, out: Path) -> Bundle:
    if folder.resolve() == out.resolve():
        remedy = "train the teacher first, in a folder of its own"
        raise ModelError("a run cannot be its own teacher", where=folder, remedy=remedy)
    with torch.random.fork_rng(devices=[]):  # the student begins as it would without a teacher
        bundle = Bundle.load(folder)
    if not bundle.model.head.linear:
        remedy = "name a model whose scores are a linear map of its features"
        raise ModelError("the scores of this teacher are no linear map", where=folder, remedy=remedy)
    if bundle.model.config.kind != "encoder-decoder":
        remedy = "name the folder of a model that translates"
        raise ModelError("this teacher does not translate", where=folder, remedy=remedy)
    return bundle


def _sha256(bundle: Bundle) -> str:
    """Of names and weights."""
    told = hashlib.sha256()
    for name, each in sorted(bundle.model.state_dict().items()):
        told.update(name.encode())
        told.update(each.detach().cpu().contiguous().view(torch.uint8).numpy())
    return told.hexdigest()
