"""Token, position and token type side by side, and one linear map of them.

W [token; position; type] = W_token token + W_position position + W_type type: with tables that are multiplied by their
part of W this is the sum again. It can say no more than the sum; it may learn another way.
"""

import torch
from torch import Tensor, nn

from clearhead.model.embedding.sum import EMBEDDING_JOINS, EmbeddingSum
from clearhead.model.norm import Norm
from clearhead.model.position.base import Position


@EMBEDDING_JOINS.register("concat")
class Concatenated(EmbeddingSum):
    """3 x width x width parameters more than the sum; what a model does not have is a vector of zeros."""

    def __init__(
        self, width: int, position: Position, segments: nn.Module, norm: Norm, scale: float, dropout: float
    ) -> None:
        super().__init__(width, position, segments, norm, scale, dropout)
        self.linear = nn.Linear(3 * width, width, bias=False)
        nn.init.xavier_uniform_(self.linear.weight)

    def join(self, embedded: Tensor, positions: Tensor, segments: Tensor | None) -> Tensor:
        nothing = torch.zeros_like(embedded)
        placed, typed = self.position.add(nothing, positions), self.segments(nothing, segments)
        joined: Tensor = self.linear(torch.cat([embedded, placed, typed], dim=-1))  # (batch, length, width)
        return joined
