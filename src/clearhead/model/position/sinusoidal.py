"""Fixed sines and cosines (Vaswani et al., 2017, arXiv:1706.03762, section 3.5)."""

import torch
from torch import Tensor

from clearhead.model.position.base import POSITIONS, Position


@POSITIONS.register("sinusoidal")
class Sinusoidal(Position):
    """Add sin(t / base^(2i/d)) to feature 2i and the cosine of the same angle to feature 2i + 1."""

    table: Tensor  # (length, d_model)

    def __init__(self, d_model: int, heads: int, d_head: int, length: int, *, base: float = 10_000.0) -> None:
        super().__init__(d_model, heads, d_head, length)
        self.base = base
        self.register_buffer("table", sinusoidal_table(length, d_model, base), persistent=False)

    def add(self, embedded: Tensor, positions: Tensor) -> Tensor:
        return embedded + self._rows(positions).to(embedded.dtype)

    def _rows(self, positions: Tensor) -> Tensor:
        last = int(positions.max()) + 1 if positions.numel() else 0
        if last > len(self.table):  # the formula has no end: draw a longer table when a longer text comes
            length = max(last, 2 * len(self.table))
            self.table = sinusoidal_table(length, self.table.shape[1], self.base).to(self.table)
        return self.table[positions]  # (batch or 1, length, d_model)


def sinusoidal_table(length: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """The table (length, d_model) in default dtype, computed in float64; an odd d_model ends with a sine."""
    position = torch.arange(length, dtype=torch.float64)[:, None]  # (length, 1)
    feature = torch.arange(0, d_model, 2, dtype=torch.float64)  # (d_model / 2,)
    angles = position * base ** (-feature / d_model)  # (length, d_model / 2)
    table = torch.stack([angles.sin(), angles.cos()], dim=-1)  # (length, d_model / 2, 2)
    return table.flatten(1)[:, :d_model].to(torch.get_default_dtype())  # (length, d_model)
