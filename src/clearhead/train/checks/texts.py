"""Texts of different lengths, laid out in a batch in different ways."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Texts with padding."""

    ids: Tensor  # (batch, length) int64
    valid: Tensor  # (batch, length) bool, False for padding

    def refilled(self, pad: int, vocab: int) -> "Batch":
        """The same texts with other ids in the padding."""
        other = (self.ids + 1 + torch.arange(self.ids.shape[1], device=self.ids.device)) % vocab
        other = torch.where(other == pad, (pad + 1) % vocab, other)
        return Batch(torch.where(self.valid, self.ids, other), self.valid)


@dataclass(frozen=True, eq=False)
class Rows:
    """Texts by themselves, each (length,) int64, and the id of padding."""

    rows: Sequence[Tensor]
    pad: int

    @classmethod
    def random(cls, lengths: Sequence[int], vocab: int, pad: int, generator: torch.Generator) -> "Rows":
        """Ids that are never padding; the same on every machine."""
        steps = [torch.randint(1, vocab, (each,), generator=generator) for each in lengths]
        return cls([(pad + each) % vocab for each in steps], pad)

    def to(self, device: torch.device) -> "Rows":
        """The same texts on a device."""
        return Rows([each.to(device) for each in self.rows], self.pad)

    @property
    def longest(self) -> Tensor:
        """The longest text as a batch of its own, (1, length)."""
        return max(self.rows, key=len)[None]

    def alone(self) -> "list[Rows]":
        """Each text by itself."""
        return [Rows([each], self.pad) for each in self.rows]

    def right(self) -> Batch:
        """Padded on the right."""
        return self._padded(lambda missing: 0)

    def left(self) -> Batch:
        """Padded on the left."""
        return self._padded(lambda missing: missing)

    def both(self) -> Batch:
        """Padded on both sides."""
        return self._padded(lambda missing: (missing + 1) // 2)

    def _padded(self, before: Callable[[int], int]) -> Batch:
        length = max(map(len, self.rows))
        ids = torch.full((len(self.rows), length), self.pad, device=self.rows[0].device)  # (batch, length)
        valid = torch.zeros_like(ids, dtype=torch.bool)
        for row, each in enumerate(self.rows):
            start = before(length - len(each))
            ids[row, start : start + len(each)], valid[row, start : start + len(each)] = each, True
        return Batch(ids, valid)
