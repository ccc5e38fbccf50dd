"""Vectors from spelling: hashed pieces of a word, as in Bojanowski et al., 2017, arXiv:1607.04606, but not learned."""

import math
import zlib
from collections.abc import Iterable, Sequence

import torch
from pydantic import PositiveInt
from torch import Tensor

from clearhead.core.errors import ConfigError
from clearhead.core.seeds import derive
from clearhead.train.vectors.base import VECTORS, Vectors


@VECTORS.register("spelling")
class Spelling(Vectors):
    """The sum of random vectors of a word's pieces, over the root of their number; no text is read.

    An inner product of two words counts, but for chance, the pieces that they share: a random projection.

    Args:
        shortest, longest: characters of a piece; a word is put between `<` and `>`.
        buckets: random vectors; pieces are hashed to them.
    """

    reads = "spelling"

    def __init__(
        self,
        width: int,
        seed: int,
        *,
        shortest: PositiveInt = 2,
        longest: PositiveInt = 5,
        buckets: PositiveInt = 65_536,
    ) -> None:
        super().__init__(width, seed)
        if shortest > longest:
            raise ConfigError("the shortest piece is longer than the longest", found=f"{shortest} and {longest}")
        self.lengths, self.buckets = range(shortest, longest + 1), buckets

    def learn(self, text: Iterable[Sequence[int]], words: Sequence[str]) -> Tensor:
        generator = torch.Generator().manual_seed(derive(self.seed, "spelling"))
        table = torch.randn(self.buckets, self.width, generator=generator) * self.width**-0.5
        rows = [[zlib.crc32(each.encode()) % self.buckets for each in pieces(word, self.lengths)] for word in words]
        return torch.stack([table[each].sum(dim=0) / math.sqrt(len(each)) for each in rows])  # (vocab, width)


def pieces(word: str, lengths: Iterable[int]) -> list[str]:
    """All substrings of these lengths, and the word itself, between `<` and `>`."""
    whole = f"<{word}>"
    inner = [whole[start : start + length] for length in lengths for start in range(len(whole) - length + 1)]
    return [whole, *(each for each in inner if each != whole)]
