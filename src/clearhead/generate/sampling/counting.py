"""What the penalties of earlier tokens share: counts of tokens."""

import copy

import torch
from torch import Tensor

from clearhead.generate.sampling.base import Context, Step


class Counting(Step):
    """A step that counts the tokens chosen so far; options: value, how strong the penalty is."""

    def __init__(self, context: Context, *, value: float) -> None:
        super().__init__(context)
        self.value = value
        self.counts = torch.zeros(context.vocab)  # (vocab,)

    def apply(self, logits: Tensor) -> Tensor:
        self.counts = self.counts.to(logits.device)
        return self.penalised(logits)

    def penalised(self, logits: Tensor) -> Tensor:
        """The logits, (vocab,), lowered as `counts` says."""
        raise NotImplementedError

    def advance(self, token: int) -> None:
        self.counts[token] += 1

    def fork(self) -> "Counting":
        other = copy.copy(self)
        other.counts = self.counts.clone()
        return other
