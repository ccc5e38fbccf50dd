"""Vectors from counts of neighbours by a truncated singular value decomposition.

Deerwester et al., 1990, for the decomposition; Levy, Goldberg and Dagan, 2015, for the counts, their weighting and the
power of the singular values. The decomposition is that of Halko, Martinsson and Tropp, 2011, arXiv:0909.4061.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from clearhead.core.errors import ConfigError, DataError
from clearhead.core.seeds import derive
from clearhead.train.vectors.base import VECTORS, Stream, Vectors


@VECTORS.register("cooccurrence")
class Cooccurrence(Vectors):
    """U S^power of the matrix that says how often each word stands near each other word.

    Args:
        window: tokens to each side that are near.
        weighting: of counts: as they are, log(1 + count), or positive pointwise mutual information.
        power: of the singular values; 1 keeps inner products of rows, 0.5 serves similarity better.
        rounds: power iterations of the decomposition; more are more exact.
    """

    def __init__(
        self,
        width: int,
        seed: int,
        *,
        window: PositiveInt = 5,
        weighting: Literal["counts", "log", "ppmi"] = "ppmi",
        power: Annotated[float, Field(ge=0.0)] = 0.5,
        rounds: PositiveInt = 8,
    ) -> None:
        super().__init__(width, seed)
        self.window, self.weighting, self.power, self.rounds = window, weighting, power, rounds

    def learn(self, text: Iterable[Sequence[int]], words: Sequence[str]) -> Tensor:
        if self.width > len(words):
            found = f"width {self.width}, {len(words)} words"
            raise ConfigError("a matrix of counts has no more directions than words", found=found)
        near = WEIGHTINGS[self.weighting](counts(Stream.of(text, len(words)), len(words), self.window))
        left, values = truncated_svd(near, self.width, rounds=self.rounds, seed=self.seed)
        return (left * values**self.power).float()  # (vocab, width)


def counts(stream: Stream, vocab: int, window: int) -> Tensor:
    """How often two words stand at most `window` tokens apart in a sequence: sparse (vocab, vocab) float64, symmetric.

    Raises:
        DataError: no two tokens stand together.
    """
    found = [_at(stream, vocab, offset) for offset in range(1, min(window, len(stream.ids) - 1) + 1)]
    pairs, often = torch.cat([each for each, _ in found] or [_NONE]), torch.cat([each for _, each in found] or [_NONE])
    if not len(pairs):
        raise DataError("no two tokens stand together", remedy="give sequences of two tokens and more")
    index = torch.stack([pairs // vocab, pairs % vocab])  # (2, pairs)
    both = torch.cat([index, index.flip(0)], dim=1), torch.cat([often, often]).double()
    return torch.sparse_coo_tensor(*both, (vocab, vocab), check_invariants=False).coalesce()


_NONE = torch.empty(0, dtype=torch.int64)


def _at(stream: Stream, vocab: int, offset: int) -> tuple[Tensor, Tensor]:
    """Pairs of words so many tokens apart, as numbers first * vocab + second, and how often each occurs."""
    together = stream.sequence[:-offset] == stream.sequence[offset:]
    pairs, often = torch.unique((stream.ids[:-offset] * vocab + stream.ids[offset:])[together], return_counts=True)
    return pairs, often


def _with(matrix: Tensor, values: Tensor) -> Tensor:
    return torch.sparse_coo_tensor(matrix.indices(), values, matrix.shape, is_coalesced=True, check_invariants=False)


def logarithms(matrix: Tensor) -> Tensor:
    """log(1 + count)."""
    return _with(matrix, matrix.values().log1p())


def ppmi(matrix: Tensor) -> Tensor:
    """max(0, log(p(i, j) / (p(i) p(j)))), zero where two words never meet."""
    row, column = matrix.indices()
    sums = matrix.sum(dim=1).to_dense()  # (vocab,); the matrix is symmetric
    ratio = matrix.values() * sums.sum() / (sums[row] * sums[column])
    return _with(matrix, ratio.log().clamp(min=0))


WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {"counts": lambda each: each, "log": logarithms, "ppmi": ppmi}


def truncated_svd(matrix: Tensor, rank: int, *, rounds: int, seed: int) -> tuple[Tensor, Tensor]:
    """The largest singular values of a matrix (rows, columns), dense or sparse, and their left vectors.

    Returns:
        (rows, rank) orthonormal columns, and (rank,) values from large to small. Exact where 2 * rank + 8 reaches the
        smaller side of the matrix; otherwise the error falls with every round.
    """
    sketch = min(2 * rank + 8, *matrix.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "singular vectors"))
        left, values, _ = torch.svd_lowrank(matrix, q=sketch, niter=rounds)
    return left[:, :rank], values[:rank]
