"""Wide vectors for frequent words, narrow ones for rare words (Baevski and Auli, 2019, arXiv:1809.10853).

Ids must be sorted by frequency, most frequent first.
"""

from itertools import pairwise
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from clearhead.core.errors import ConfigError
from clearhead.model.embedding.base import EMBEDDINGS, Embedding, new_table, require_rows

Cutoffs = list[Annotated[int, Field(gt=0)]]
Factor = Annotated[int, Field(gt=0)]


@EMBEDDINGS.register("adaptive")
class Adaptive(Embedding):
    """Bands of the vocabulary, each with a table factor times narrower than the one before, and a map to d_model.

    Args:
        cutoffs: ids at which bands end; None = after a tenth and after half of the vocabulary.
        factor: how much narrower each band is.
    """

    def __init__(
        self, vocab: int, d_model: int, pad: int, *, cutoffs: Cutoffs | None = None, factor: Factor = 4
    ) -> None:
        super().__init__(vocab, d_model, pad)
        require_rows(vocab, pad)
        self.edges = edges(vocab, cutoffs)
        widths = [max(1, d_model // factor**band) for band in range(len(self.edges) - 1)]
        rows = [end - start for start, end in pairwise(self.edges)]
        self.tables = nn.ParameterList(new_table(*each) for each in zip(rows, widths, strict=True))
        self.projections = nn.ModuleList(_projection(width, d_model) for width in widths)

    def forward(self, tokens: Tensor) -> Tensor:
        bands = enumerate(zip(self.tables, self.projections, strict=True))
        vectors = [self._band(tokens, index, table, projection) for index, (table, projection) in bands]
        return sum(vectors[1:], start=vectors[0])  # (batch, length, d_model)

    def _band(self, tokens: Tensor, index: int, table: Tensor, projection: nn.Module) -> Tensor:
        """The vectors of the tokens in one band, zeros for the others."""
        start, end = self.edges[index : index + 2]
        inside = (tokens >= start) & (tokens < end)
        vectors: Tensor = projection(F.embedding((tokens - start).clamp(0, end - start - 1), table))
        return vectors * inside[..., None]


def edges(vocab: int, cutoffs: Cutoffs | None) -> list[int]:
    """Where bands begin and end: 0, the cutoffs, vocab; a ConfigError if that is not an ascending list."""
    inner = cutoffs if cutoffs is not None else sorted({max(1, vocab // 10), max(1, vocab // 2)})
    whole = [0, *inner, vocab]
    if any(left >= right for left, right in pairwise(whole)):
        raise ConfigError("cutoffs must ascend and end before the vocabulary does", found=f"{inner} of {vocab} tokens")
    return whole


def _projection(width: int, d_model: int) -> nn.Linear:
    """Keeps the mean square of a feature."""
    linear = nn.Linear(width, d_model, bias=False)
    nn.init.normal_(linear.weight, std=d_model**-0.5)
    return linear
