"""How keys and values are stored: as they are, or as int8 with a scale for each head and token."""

from typing import Protocol

import torch
from torch import Tensor


class Codec(Protocol):
    """States (..., d_head) to what is stored and back."""

    def encode(self, states: Tensor) -> tuple[Tensor, ...]:
        """The tensors that are stored, each with the shape of the states but for its last axis."""

    def decode(self, stored: tuple[Tensor, ...]) -> Tensor:
        """The states, (..., d_head)."""


class Exact:
    """Stores the states themselves."""

    def encode(self, states: Tensor) -> tuple[Tensor, ...]:
        return (states,)

    def decode(self, stored: tuple[Tensor, ...]) -> Tensor:
        return stored[0]


class Int8:
    """Each vector as whole numbers from -127 to 127 times a scale of its own; a zero vector stays zero."""

    def encode(self, states: Tensor) -> tuple[Tensor, ...]:
        exact = torch.promote_types(states.dtype, torch.float32)
        scale = states.abs().amax(dim=-1, keepdim=True).to(exact) / 127.0  # (..., 1)
        whole = (states / scale.clamp(min=torch.finfo(exact).tiny)).round_().to(torch.int8)
        return whole, scale.to(states.dtype)

    def decode(self, stored: tuple[Tensor, ...]) -> Tensor:
        whole, scale = stored
        return whole * scale
