"""Embeddings with fewer rows than words: several words share a row, and what they combine differs.

Hash embeddings: Svenstrup et al., 2017, arXiv:1709.03933. Quotient and remainder: Shi et al., 2020, arXiv:1909.02107.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from clearhead.core.seeds import derive
from clearhead.model.embedding.base import EMBEDDINGS, Embedding, new_table, require_rows

PRIME = 2**31 - 1
Count = Annotated[int, Field(gt=0)]


@EMBEDDINGS.register("hashed")
class Hashed(Embedding):
    """The sum of a few rows of a short table, chosen by hash functions and weighted by each word's own importances.

    buckets x d_model + vocab x hashes parameters.

    Args:
        buckets: rows of the table; None = a tenth of the vocabulary.
        hashes: hash functions.
    """

    factor: Tensor  # (hashes,) int64
    shift: Tensor  # (hashes,) int64

    def __init__(self, vocab: int, d_model: int, pad: int, *, buckets: Count | None = None, hashes: Count = 2) -> None:
        super().__init__(vocab, d_model, pad)
        require_rows(vocab, pad)
        self.table = new_table(buckets or math.ceil(vocab / 10), d_model)  # (buckets, d_model)
        self.importance = nn.Parameter(torch.ones(vocab, hashes) + 0.1 * torch.randn(vocab, hashes))
        self.register_buffer("factor", _numbers("factor", hashes), persistent=False)
        self.register_buffer("shift", _numbers("shift", hashes), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        rows = F.embedding(self.bucket(tokens), self.table)  # (batch, length, hashes, d_model)
        weights = F.embedding(tokens, self.importance, padding_idx=self.pad)  # (batch, length, hashes)
        return (weights[..., None] * rows).sum(dim=-2)  # (batch, length, d_model)

    def bucket(self, tokens: Tensor) -> Tensor:
        """The rows of each token, (batch, length) -> (batch, length, hashes): (a t + b) mod p mod buckets."""
        return (self.factor * tokens[..., None] + self.shift) % PRIME % len(self.table)


def _numbers(purpose: str, count: int) -> Tensor:
    """Numbers that look random and are the same on every machine, (count,) int64."""
    return torch.tensor([derive(0, "hash embedding", purpose, index) % (PRIME - 1) + 1 for index in range(count)])


@EMBEDDINGS.register("compositional")
class Compositional(Embedding):
    """The product of two rows: word t has row t // buckets of one table and row t mod buckets of the other.

    No two words have the same pair. (ceil(vocab / buckets) + buckets) x d_model parameters.

    Args:
        buckets: rows of the second table; None = about the square root of the vocabulary.
    """

    def __init__(self, vocab: int, d_model: int, pad: int, *, buckets: Count | None = None) -> None:
        super().__init__(vocab, d_model, pad)
        require_rows(vocab, pad)
        self.buckets = buckets or math.isqrt(vocab - 1) + 1
        self.quotient = new_table(math.ceil(vocab / self.buckets), d_model)
        self.remainder = nn.Parameter(torch.randn(self.buckets, d_model))  # variance 1: the product keeps that of one

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens // self.buckets, self.quotient) * F.embedding(tokens % self.buckets, self.remainder)
