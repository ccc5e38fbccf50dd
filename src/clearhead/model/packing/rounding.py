"""Rows of numbers as whole numbers from -127 to 127."""

import torch
from torch import Tensor

LARGEST = 127.0


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Each row as whole numbers (rows, features) int8 times a scale of its own (rows, 1); zeros stay zeros."""
    scale = rows.abs().amax(dim=1, keepdim=True).div_(LARGEST).clamp_(min=torch.finfo(rows.dtype).tiny)  # (rows, 1)
    return (rows / scale).round_().to(torch.int8), scale
