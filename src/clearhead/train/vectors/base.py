"""The doorway of the vector family: a text or the spelling of words in, one vector for each word out.

What comes out is for `Embedding.load`: a model can begin with vectors that were learned elsewhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from clearhead.core.errors import DataError
from clearhead.core.registry import Registry


@dataclass(frozen=True, eq=False)
class Stream:
    """Sequences of ids laid one after another."""

    ids: Tensor  # (tokens,) int64
    sequence: Tensor  # (tokens,) int64: which sequence a token belongs to

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]], vocab: int) -> "Stream":
        """Raise a DataError for ids that the vocabulary does not have."""
        rows = [torch.as_tensor(each, dtype=torch.int64) for each in sequences]
        ids = torch.cat([torch.empty(0, dtype=torch.int64), *rows])
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocab:
            found = f"ids from {int(ids.min())} to {int(ids.max())}"
            raise DataError("ids that no word has", found=found, expected=f"from 0 to {vocab - 1}")
        lengths = torch.tensor([len(each) for each in rows], dtype=torch.int64)
        return cls(ids, torch.arange(len(rows)).repeat_interleave(lengths))


class Vectors:
    """A way to give words vectors. Wiring: width (features), seed. The constructor only stores."""

    reads: ClassVar[str] = "text"  # what they are learned from: text or spelling

    def __init__(self, width: int, seed: int) -> None:
        self.width, self.seed = width, seed

    def learn(self, text: Iterable[Sequence[int]], words: Sequence[str]) -> Tensor:
        """One vector for each word; the same input gives the same vectors.

        Args:
            text: sequences of ids, read once.
            words: how the word of each id is spelled; its length is the size of the vocabulary.

        Returns:
            (vocab, width) float32; a word that never occurs may have a vector that says nothing.

        Raises:
            DataError: a text from which nothing can be learned.
        """
        raise NotImplementedError


VECTORS: Registry[Vectors] = Registry("vectors")


def at_table_scale(vectors: Tensor) -> Tensor:
    """The same directions with a mean square of 1 / width, as a new table of a model has it."""
    spread = vectors.square().mean().sqrt().clamp(min=torch.finfo(vectors.dtype).tiny)
    scaled: Tensor = vectors / spread * vectors.shape[1] ** -0.5
    return scaled
