"""Sentence pairs to a translator."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from clearhead.bundle import Bundle
from clearhead.core.devices import autocast
from clearhead.core.processes import World
from clearhead.data.buckets import Place
from clearhead.generate import SearchConfig
from clearhead.model import Transformer
from clearhead.train.fitting import BLEUS
from clearhead.train.machine import Machine
from clearhead.train.materials import gather
from clearhead.train.recipe import Recipe
from clearhead.train.report import write_report
from clearhead.train.stream import batch_stream
from clearhead.train.tasks.base import TASKS, Scores, Task
from clearhead.train.validation import Translations


@TASKS.register("translation")
class TranslationTask(Task):
    """Parallel stores in, BLEU of the model's own translations out."""

    metrics = (*BLEUS, "loss")

    def __init__(self, recipe: Recipe, out: Path) -> None:
        super().__init__(recipe, out)
        self.materials = gather(recipe, out)
        self.source, self.target = self.materials.source, self.materials.target
        self.has_test = self.materials.test is not None

    def require_reach(self, model: Transformer) -> None:
        self.materials.require_reach(model)

    def prepare(self, machine: Machine, *, rehearsal: bool = False) -> None:
        with autocast(machine.device, machine.dtype):
            self.objective.prepare(self.materials.stores, machine.device, rehearsal=rehearsal)

    def batches(self, place: Place, world: World) -> Iterator[tuple[Sequence[Any], Place]]:
        return batch_stream(self.recipe, self.materials.stores, (self.source, self.target), place, world)

    def validate(self, learner: nn.Module) -> Scores:
        """Loss, and by greedy search on the first sentences BLEU and a few samples."""
        model, valid = self.objective.product(learner), self.materials.valid
        metrics: Scores = dict(valid.loss(model))
        if (self.recipe.train.metric or self.metrics[0]) in BLEUS:
            outputs = valid.translate(model, SearchConfig(beams=1), self.recipe.train.bleu_sentences)
            scores = valid.judged(outputs)
            metrics |= {name: scores[name] for name in BLEUS}
            metrics["samples"] = valid.samples(outputs)
        return metrics

    def quality(self, learner: nn.Module, split: str) -> Scores:
        """Loss, and the scores of the translations that the recipe's search finds."""
        model, pairs = self.objective.product(learner), self._pairs(split)
        scores: Scores = {**pairs.loss(model), **pairs.scores(model, self.recipe.search)}
        return scores if split == "valid" else {**scores, "sentences": len(pairs.pairs)}

    def history(self) -> Scores:
        return {"language": self.recipe.data.language}

    def report(self, out: Path, bundle: Bundle, recipe: str) -> None:
        write_report(out, bundle, self._pairs("test" if self.has_test else "valid").pairs, recipe)

    def _pairs(self, split: str) -> Translations:
        test = self.materials.test
        return test if split == "test" and test is not None else self.materials.valid
