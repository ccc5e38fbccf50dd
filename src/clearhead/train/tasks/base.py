"""The doorway of the task family: everything of a run that knows what its data means.

The loop asks a task for batches and for a judgement, the end of a run for scores, and nobody else reads the data.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from torch import nn

from clearhead.bundle import Bundle
from clearhead.core.processes import World
from clearhead.core.registry import Registry
from clearhead.data.buckets import Place
from clearhead.model import Transformer
from clearhead.text import Tokenizer
from clearhead.train.machine import Machine
from clearhead.train.objectives import OBJECTIVES, Objective
from clearhead.train.recipe import Recipe
from clearhead.train.report import write_report

Scores = dict[str, Any]


class Task:
    """What a training works on. Wiring: the recipe and the run folder, where earlier parts of the run left things.

    Attributes:
        metrics: names that `train.metric` may have, the usual one first.
        source, target: tokenizers; one object where there is one vocabulary.
        has_test: whether there is a test set, scored once at the end.
    """

    metrics: ClassVar[tuple[str, ...]]
    source: Tokenizer
    target: Tokenizer
    has_test: bool

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe = recipe
        self.objective: Objective = OBJECTIVES.build(recipe.objective)
        self.objective.fetch(out)

    @classmethod
    def sampled(cls, recipe: Recipe) -> Recipe:
        """The recipe with no more data than a dry run needs; a corpus that fits in memory is not cut."""
        return recipe

    def require_reach(self, model: Transformer) -> None:
        """Refuse data that the model cannot read, before the training begins."""

    def prepare(self, machine: Machine, *, rehearsal: bool = False) -> None:
        """What is computed of the data before the training; the first process does it, the others find it done.

        In a rehearsal it is not computed, but takes the same room.
        """

    def batches(self, place: Place, world: World) -> Iterator[tuple[Sequence[Any], Place]]:
        """This process's batches of one update after another, without end, and the place after each update."""
        raise NotImplementedError

    def validate(self, learner: nn.Module) -> Scores:
        """How good the model is right now, in the middle of the training."""
        raise NotImplementedError

    def quality(self, learner: nn.Module, split: str) -> Scores:
        """All scores on `valid` or `test`, at the end of the training."""
        raise NotImplementedError

    def history(self) -> Scores:
        """What a bundle should remember of the data."""
        return {}

    def report(self, out: Path, bundle: Bundle, recipe: str) -> None:
        """Write the page of the run."""
        write_report(out, bundle, recipe=recipe)

    def rank(self, scores: Scores) -> float:
        """What weights are compared by: larger is better."""
        name = self.recipe.train.metric or self.metrics[0]
        return -float(scores[name]) if name == "loss" else float(scores[name])


TASKS: Registry[Task] = Registry("task")


def task_of(recipe: Recipe, out: Path) -> Task:
    """The task of the recipe's objective, with all that it needs prepared in the run folder."""
    task = kind_of(recipe)(recipe, out)
    task.objective.settle(task.source, task.target)
    return task


def kind_of(recipe: Recipe) -> type[Task]:
    """The kind of task that the recipe's objective is for."""
    part: Any = OBJECTIVES.get(recipe.objective.kind)
    return cast(type[Task], TASKS.get(part.task))
