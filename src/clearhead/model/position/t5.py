"""A learned bias for each bucket of distances (Raffel et al., 2020, arXiv:1910.10683, section 2.1)."""

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from clearhead.core.errors import ConfigError
from clearhead.model.position.base import POSITIONS, LayerPosition, Lent, Position, distances


@POSITIONS.register("t5")
class T5Bias(Position):
    """Add table[bucket of the distance] to a score; one table for all blocks of a stack.

    Half of the buckets are single distances, the others grow as the logarithm up to `distance`, beyond which all
    are one. An encoder splits its buckets between earlier and later keys.

    Args:
        buckets: rows of the table.
        distance: tokens from which on all distances are one bucket.
    """

    biases: ClassVar[bool] = True

    def __init__(
        self,
        d_model: int,
        heads: int,
        d_head: int,
        length: int,
        *,
        buckets: Annotated[int, Field(ge=4)] = 32,
        distance: PositiveInt = 128,
    ) -> None:
        super().__init__(d_model, heads, d_head, length)
        if distance <= buckets // 2:
            expected = f"more than {buckets // 2}, the distances with a bucket of their own"
            raise ConfigError("the buckets reach beyond the distance", found=f"distance {distance}", expected=expected)
        self.distance = distance
        self.table = nn.Parameter(torch.empty(buckets, heads))  # (buckets, heads)
        nn.init.normal_(self.table, std=d_model**-0.5)

    def layer(self, *, causal: bool) -> LayerPosition:
        return Lent(self, bias=self.bias_of_past if causal else self.bias)

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        distance = distances(query_positions, key_positions)  # (batch or 1, queries, keys)
        half = len(self.table) // 2
        return self._rows(bucket(distance.abs(), half, self.distance) + half * (distance < 0))

    def bias_of_past(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """The same in a decoder: all buckets are for earlier keys."""
        distance = distances(query_positions, key_positions).clamp(min=0)  # (batch or 1, queries, keys)
        return self._rows(bucket(distance, len(self.table), self.distance))

    def _rows(self, buckets: Tensor) -> Tensor:
        """Buckets (batch or 1, queries, keys) -> their biases (batch or 1, heads, queries, keys)."""
        return self.table[buckets].permute(0, 3, 1, 2)


def bucket(distance: Tensor, buckets: int, farthest: int) -> Tensor:
    """The bucket of each distance >= 0, in float32 as the published models were trained."""
    single = buckets // 2  # distances with a bucket of their own
    share = torch.log(distance.clamp(min=1).float() / single) / math.log(farthest / single)
    grouped = (single + (share * (buckets - single)).long()).clamp(max=buckets - 1)
    return torch.where(distance < single, distance, grouped)
