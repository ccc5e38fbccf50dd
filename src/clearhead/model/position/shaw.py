"""Relative position representations (Shaw et al., 2018, arXiv:1803.02155, section 3)."""

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from clearhead.model.position.base import POSITIONS, InLayer, LayerPosition, Position, Relation, distances


@POSITIONS.register("shaw")
class Shaw(Position):
    """Each block has a vector for each distance, one for keys and one for values, shared by its heads.

    Args:
        clip: tokens from which on all distances, to one side, are one.
    """

    biases: ClassVar[bool] = True
    relates_values: ClassVar[bool] = True

    def __init__(self, d_model: int, heads: int, d_head: int, length: int, *, clip: PositiveInt = 16) -> None:
        super().__init__(d_model, heads, d_head, length)
        self.d_head, self.clip = d_head, clip

    def layer(self, *, causal: bool) -> LayerPosition:
        return ShawLayer(self.d_head, self.clip)


class ShawLayer(InLayer):
    """score + query . keys[distance] / sqrt(d_head), value + values[distance]."""

    def __init__(self, d_head: int, clip: int) -> None:
        super().__init__()
        self.clip = clip
        self.keys = nn.Parameter(torch.empty(2 * clip + 1, d_head))  # row 0: the key stands `clip` or more before
        self.values = nn.Parameter(torch.empty(2 * clip + 1, d_head))
        for table in (self.keys, self.values):
            nn.init.normal_(table, std=d_head**-0.5)

    def relate(self, query: Tensor, key: Tensor, query_positions: Tensor, key_positions: Tensor) -> Relation:
        row = self.clip - distances(query_positions, key_positions).clamp(-self.clip, self.clip)
        scores = query.shape[-1] ** -0.5 * query @ self.keys.T  # (batch, heads, queries, distances)
        return Relation(at_distance(scores, row), self.values[row])


def at_distance(scores: Tensor, index: Tensor) -> Tensor:
    """Scores of distances (batch, heads, queries, distances) -> scores of pairs (batch, heads, queries, keys).

    `index`: (batch or 1, queries, keys), which distance a pair has.
    """
    return scores.gather(-1, index[:, None].expand(*scores.shape[:3], -1))
