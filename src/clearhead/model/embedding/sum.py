"""What is done with embeddings before the first block: scale, positions, token types, norm, dropout.

dropout(norm(scale * embedded + positions + token types)), or another join than a sum. The scale is that of Vaswani et
al., 2017, section 3.4, token types and norm are those of Devlin et al., 2019, arXiv:1810.04805, section 3.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.core.errors import ModelError
from clearhead.core.registry import Registry
from clearhead.model.dropout import Dropout
from clearhead.model.embedding.base import new_table
from clearhead.model.norm import Norm
from clearhead.model.position.base import Position


class NoSegments(nn.Module):
    """A model that does not tell one part of its input from another."""

    def forward(self, embedded: Tensor, segments: Tensor | None) -> Tensor:
        if segments is not None:
            raise ModelError("this model has no token types", remedy="leave segments out, or train with model.segments")
        return embedded


class Segments(nn.Module):
    """Add row s of a small table to the tokens of segment s (BERT's token types)."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.table = new_table(rows, width)  # (segments, width)

    def forward(self, embedded: Tensor, segments: Tensor | None) -> Tensor:
        """Embedded (batch, length, width), segments (batch, length) int64; None = all tokens of segment 0."""
        rows = self.table[0] if segments is None else F.embedding(segments, self.table)
        return embedded + rows.to(embedded.dtype)


class EmbeddingSum(nn.Module):
    """(batch, length, width) -> the same shape, with all that a token's vector says before the first block.

    The doorway of the family `embedding_join`: a kind is its `join`.
    """

    def __init__(
        self, width: int, position: Position, segments: nn.Module, norm: Norm, scale: float, dropout: float
    ) -> None:
        super().__init__()
        self.position, self.segments, self.norm = position, segments, norm
        self.scale = scale
        self.dropout = Dropout(dropout)

    def forward(
        self, embedded: Tensor, positions: Tensor, segments: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Positions (batch or 1, length) int64, segments (batch, length) int64, valid (batch, length) bool."""
        joined: Tensor = self.dropout(self.norm(self.join(self.scale * embedded, positions, segments), valid))
        return joined

    def join(self, embedded: Tensor, positions: Tensor, segments: Tensor | None) -> Tensor:
        """Token, position and token type as one vector, (batch, length, width)."""
        raise NotImplementedError


EMBEDDING_JOINS: Registry[EmbeddingSum] = Registry("embedding_join")


@EMBEDDING_JOINS.register("sum")
class Added(EmbeddingSum):
    """The sum of the three."""

    def join(self, embedded: Tensor, positions: Tensor, segments: Tensor | None) -> Tensor:
        added: Tensor = self.segments(self.position.add(embedded, positions), segments)
        return added
