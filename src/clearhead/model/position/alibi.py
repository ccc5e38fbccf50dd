"""Attention with linear biases (Press et al., 2021, arXiv:2108.12409)."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from clearhead.model.position.base import POSITIONS, Position, distances


@POSITIONS.register("alibi")
class Alibi(Position):
    """Lower a score in proportion to the distance, with one slope for each head; in an encoder to both sides."""

    biases: ClassVar[bool] = True
    slopes: Tensor  # (heads,)

    def __init__(self, d_model: int, heads: int, d_head: int, length: int) -> None:
        super().__init__(d_model, heads, d_head, length)
        self.register_buffer("slopes", torch.tensor(alibi_slopes(heads)), persistent=False)

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        distance = distances(query_positions, key_positions).abs()  # (batch or 1, queries, keys)
        return -self.slopes[:, None, None] * distance[:, None]  # (batch or 1, heads, queries, keys)


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8 i / heads) for a power of two; other numbers add every second slope of the next power of two."""
    power = 2 ** int(math.log2(heads))
    slopes = [2.0 ** (-8 * i / power) for i in range(1, power + 1)]
    return slopes + [2.0 ** (-4 * i / power) for i in range(1, 2 * (heads - power) + 1, 2)]
