"""Inverted dropout (Srivastava et al., 2014), on the CPU by a compiled loop or with masks from 16 bits an element.

The generator of torch draws one 32-bit number for each element of a mask, which costs more than the layer around
it on a CPU. One 64-bit draw gives four elements here, at a resolution of 1/65536 in the rate.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.model.fused import can_drop, drop


class Dropout(nn.Module):
    """Zero each element with probability `rate` while training and scale the rest by 1 / (1 - rate)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, hidden: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return hidden
        if hidden.device.type != "cpu":
            return F.dropout(hidden, self.rate)
        return drop(hidden, self.rate) if can_drop(hidden) else hidden * keep_mask(hidden, self.rate)

    def extra_repr(self) -> str:
        return f"{self.rate}"


def keep_mask(like: Tensor, rate: float) -> Tensor:
    """A mask of the shape and dtype of `like`: 0 with probability `rate`, else 1 / (1 - rate)."""
    steps = min(round(rate * 65536), 65535)  # a rate just below 1 must not divide by zero
    draws = torch.empty((like.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[: like.numel()].view(like.shape)
    return (bits >= steps - 32768).to(like.dtype).mul_(65536 / (65536 - steps))
