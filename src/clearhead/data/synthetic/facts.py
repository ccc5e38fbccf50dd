"""Statements about a small world: subject, relation, object, some far more often than others, some contradicting."""

import math
from typing import Literal

import torch
from torch import Tensor

from clearhead.core.errors import ConfigError
from clearhead.core.seeds import derive
from clearhead.data.synthetic.base import IGNORED, TASKS, Samples, Task
from clearhead.data.synthetic.drawing import at_least, cumulated, entropy, pick, uniform, whole

START, FIRST = 1, 3


@TASKS.register("facts")
class Facts(Task):
    """One statement an example; the frequency of its subject follows Zipf's law, relations are equally frequent.

        tokens  <start> subject relation     labels  - - object     (or with ask all:  subject relation object)

    Each relation has objects of its own; which one is true of a subject is drawn by Zipf's law too, so that every
    relation has a popular object. Ids: 0 padding, 1 start, 2 is never drawn, then subjects from the most to the
    least frequent, relations, the objects of the first relation, of the second, ... `best` is exact.

    Attributes:
        frequency: (subjects,) float64, share of the statements that are about each subject.
        truth: (subjects, relations) int64, id of the object that is stated most.
        rival: (subjects, relations) int64, id of the object that a conflicting statement gives.
        conflicting: (subjects,) bool.

    Args:
        subjects, relations: of the world.
        objects: of each relation, at least 2.
        exponent: of Zipf's law for subjects; 0 = all equally frequent.
        conflicts: share of the subjects about which there are conflicting statements.
        outdated: share of the statements about such a subject that give the rival.
        ask: only the object, or all three words of a statement.
        seed: of the world.
    """

    def __init__(
        self,
        *,
        subjects: int = 200,
        relations: int = 5,
        objects: int = 20,
        exponent: float = 1.0,
        conflicts: float = 0.0,
        outdated: float = 0.2,
        ask: Literal["object", "all"] = "object",
        seed: int = 0,
    ) -> None:
        at_least(1, subjects=subjects, relations=relations)
        at_least(2, objects=objects)
        if exponent < 0 or not 0 <= conflicts <= 1 or not 0 <= outdated <= 0.5:
            expected = "an exponent of at least 0, conflicts from 0 to 1, outdated from 0 to 0.5"
            raise ConfigError("no such world", found=f"{exponent}, {conflicts}, {outdated}", expected=expected)
        self.subjects, self.relations, self.objects = subjects, relations, objects
        self.outdated, self.ask = outdated, ask
        self.vocab = FIRST + subjects + relations + relations * objects
        self.frequency = _zipf(subjects, exponent)
        self.truth, self.rival, self.conflicting = self._world(round(conflicts * subjects), seed)
        self._line = cumulated(self.frequency[None])
        self.best = self._best()

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        numbers = uniform(count, 3, generator)
        subject = pick(self._line, self.subjects, torch.zeros(count, dtype=torch.int64), numbers[:, 0])
        relation = whole(numbers[:, 1], self.relations)
        wrong = self.conflicting[subject] & (numbers[:, 2] < self.outdated)
        stated = torch.where(wrong, self.rival[subject, relation], self.truth[subject, relation])
        return self._statements(subject, relation, stated)

    def questions(self) -> Samples:
        """Every subject with every relation once, the most frequent subjects first; the label is the truth."""
        subject = torch.arange(self.subjects).repeat_interleave(self.relations)
        relation = torch.arange(self.relations).repeat(self.subjects)
        return self._statements(subject, relation, self.truth[subject, relation])

    def _statements(self, subject: Tensor, relation: Tensor, stated: Tensor) -> Samples:
        words = torch.stack((FIRST + subject, FIRST + self.subjects + relation, stated), dim=1)  # (batch, 3)
        tokens = torch.cat((torch.full_like(words[:, :1], START), words[:, :2]), dim=1)
        labels = words.clone()
        if self.ask == "object":
            labels[:, :2] = IGNORED
        return Samples(tokens, labels)

    def _world(self, conflicts: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(derive(seed, "facts"))
        numbers = uniform(self.subjects, 2 * self.relations + 1, generator)
        popular = cumulated(_zipf(self.objects, 1.0)[None])
        chosen = numbers[:, : self.relations]
        true = pick(popular, self.objects, torch.zeros_like(chosen, dtype=torch.int64), chosen)
        shift = 1 + whole(numbers[:, self.relations : -1], self.objects - 1)  # to any other object
        first = FIRST + self.subjects + self.relations + torch.arange(self.relations) * self.objects
        conflicting = numbers[:, -1].argsort().argsort() < conflicts
        return first + true, first + (true + shift) % self.objects, conflicting

    def _best(self) -> float:
        doubt = entropy(torch.tensor([self.outdated, 1 - self.outdated], dtype=torch.float64))
        stated = float(self.frequency[self.conflicting].sum() * doubt)
        if self.ask == "object":
            return stated
        return (float(entropy(self.frequency)) + math.log(self.relations) + stated) / 3


def _zipf(count: int, exponent: float) -> Tensor:
    """(count,) float64: probabilities proportional to rank ** -exponent."""
    weights = torch.arange(1, count + 1, dtype=torch.float64) ** -exponent
    return weights / weights.sum()
