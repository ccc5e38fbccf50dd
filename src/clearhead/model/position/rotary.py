"""Rotary position embedding (Su et al., 2021, arXiv:2104.09864), in the half-split layout of Llama."""

import torch
from torch import Tensor

from clearhead.core.errors import ConfigError
from clearhead.model.position.base import POSITIONS, Position


@POSITIONS.register("rope")
class Rotary(Position):
    """Rotate feature pair (i, i + d_head/2) of queries and keys by t * base^(-2i/d_head) radians.

    The angles are never computed in less than float32, whatever the number format of the model: at position 500
    bfloat16 cannot tell neighbours apart.
    """

    def __init__(self, d_model: int, heads: int, d_head: int, length: int, *, base: float = 10_000.0) -> None:
        super().__init__(d_model, heads, d_head, length)
        if d_head % 2:
            remedy = "set model.d_head to an even number"
            raise ConfigError("rope turns pairs of features", found=f"d_head {d_head}", remedy=remedy)
        if base <= 0:
            raise ConfigError("the base of rope is a length", found=f"base {base}", expected="a positive number")
        self.base = base

    def rotate(self, states: Tensor, positions: Tensor) -> Tensor:
        exact = torch.promote_types(states.dtype, torch.float32)
        angles = self._angles(positions[:, None], states.shape[-1], exact)  # (batch or 1, 1, length, d_head / 2)
        cosine, sine = angles.cos().to(states.dtype), angles.sin().to(states.dtype)
        left, right = states.chunk(2, dim=-1)  # each (batch, heads, length, d_head / 2)
        return torch.cat([left * cosine - right * sine, right * cosine + left * sine], dim=-1)

    def _angles(self, positions: Tensor, d_head: int, dtype: torch.dtype) -> Tensor:
        exponent = torch.arange(0, d_head, 2, dtype=dtype, device=positions.device) / d_head  # (d_head / 2,)
        return positions[..., None] * self.base**-exponent
