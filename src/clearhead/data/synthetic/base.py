"""The doorway of the synthetic tasks: endless examples of a known law, so that the best possible score is known."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from clearhead.core.registry import Registry

IGNORED = -100  # a label that is not asked for, as in torch.nn.functional.cross_entropy


@dataclass(frozen=True, eq=False)
class Samples:
    """Examples of a task, padded on the right with 0."""

    tokens: Tensor  # (batch, length) int64, what the last stack reads; images: (batch, patches, width) float
    labels: Tensor  # (batch, length) int64 for each token, or (batch,) int64 for each text; IGNORED = not asked
    valid: Tensor | None = None  # (batch, length) bool, False for padding; None = no padding
    source: Tensor | None = None  # (batch, source) int64, what the encoder of an encoder-decoder reads
    source_valid: Tensor | None = None  # (batch, source) bool

    def __len__(self) -> int:
        return len(self.tokens)


class Task(ABC):
    """A law that examples are drawn from."""

    vocab: int  # ids are 0 to vocab - 1; 0 is padding where texts differ in length
    classes: int | None = None  # labels of a whole text; None = labels are ids
    best: float | None = None  # nats per asked label that no model can go below; None = not known

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Samples:
        """Independent examples; the same generator state gives the same examples."""


TASKS: Registry[Task] = Registry("synthetic task")
