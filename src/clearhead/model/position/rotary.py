"""Rotary position embedding (Su et al., 2021, arXiv:2104.09864), in the half-split layout of Llama."""

import torch
from torch import Tensor

from clearhead.core.errors import ConfigError
from clearhead.model.position.base import POSITIONS, Position


@POSITIONS.register("rope")
class Rotary(Position):
    """Rotate feature pair (i, i + d_head/2) of queries and keys by t * base^(-2i/d_head)."""

    frequencies: Tensor  # (d_head / 2,), radians per token

    def __init__(self, d_model: int, heads: int, d_head: int, length: int, *, base: float = 10_000.0) -> None:
        super().__init__(d_model, heads, d_head, length)
        if d_head % 2:
            raise ConfigError("rope turns pairs of features", found=f"d_head {d_head}", expected="an even d_head")
        exponent = torch.arange(0, d_head, 2, dtype=torch.float64) / d_head
        frequencies = (base**-exponent).to(torch.get_default_dtype())
        self.register_buffer("frequencies", frequencies, persistent=False)

    def rotate(self, states: Tensor, positions: Tensor) -> Tensor:
        angles = positions[:, None, :, None] * self.frequencies  # (batch or 1, 1, length, d_head / 2)
        cosine, sine = angles.cos().to(states.dtype), angles.sin().to(states.dtype)
        left, right = states.chunk(2, dim=-1)  # each (batch, heads, length, d_head / 2)
        return torch.cat([left * cosine - right * sine, right * cosine + left * sine], dim=-1)
