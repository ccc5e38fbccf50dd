"""Fixed sines and cosines (Vaswani et al., 2017, arXiv:1706.03762, section 3.5)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from clearhead.model.position.base import POSITIONS, Position

Layout = Literal["pairs", "halves"]


@POSITIONS.register("sinusoidal")
class Sinusoidal(Position):
    """Add sin(t / base^(2i/d)) and the cosine of the same angle.

    Args:
        base: the longest wave is 2 pi times this many tokens.
        layout: pairs = sine and cosine of an angle side by side, in features 2i and 2i + 1, as in the paper;
            halves = all sines, then all cosines, as in Marian.
    """

    table: Tensor  # (length, d_model)

    def __init__(
        self, d_model: int, heads: int, d_head: int, length: int, *, base: float = 10_000.0, layout: Layout = "pairs"
    ) -> None:
        super().__init__(d_model, heads, d_head, length)
        self.base, self.layout = base, layout
        self.register_buffer("table", sinusoidal_table(length, d_model, base, layout), persistent=False)

    def add(self, embedded: Tensor, positions: Tensor) -> Tensor:
        return embedded + self._rows(positions).to(embedded.dtype)

    def _rows(self, positions: Tensor) -> Tensor:
        last = int(positions.max()) + 1 if positions.numel() else 0
        if last > len(self.table):  # the formula has no end: draw a longer table when a longer text comes
            length = max(last, 2 * len(self.table))
            self.table = sinusoidal_table(length, self.table.shape[1], self.base, self.layout).to(self.table)
        return F.embedding(positions, self.table)  # (batch or 1, length, d_model)


def sinusoidal_table(length: int, d_model: int, base: float = 10_000.0, layout: Layout = "pairs") -> Tensor:
    """The table (length, d_model) in default dtype, computed in float64; an odd d_model has one sine more."""
    return waves(torch.arange(length), d_model, base, layout).to(torch.get_default_dtype())


def waves(at: Tensor, width: int, base: float, layout: Layout) -> Tensor:
    """Sines and cosines at these places (places,), negative ones included: (places, width) in float64."""
    feature = torch.arange(0, width, 2, dtype=torch.float64, device=at.device)  # (width / 2,)
    angles = at[:, None] * base ** (-feature / width)  # (places, width / 2)
    if layout == "pairs":
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]  # (places, width)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width]  # (places, width)
