"""Fourier transforms in place of self-attention (FNet; Lee-Thorp et al., 2022, arXiv:2105.03824): nothing to learn."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from clearhead.model.cache import LayerCache
from clearhead.model.forward_pass import Pass
from clearhead.model.stack.base import STACKS, Blocks, Parts, require_plain


class Fourier(nn.Module):
    """The real part of the discrete Fourier transform over features and tokens, padding left out."""

    def forward(self, hidden: Tensor, now: Pass, cache: LayerCache) -> Tensor:
        """(batch, length, d_model) -> the same shape."""
        require_plain(now.mask)
        exact = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        features = torch.fft.fft(exact, dim=-1)  # (batch, length, d_model), complex
        mixed = torch.fft.fft(features, dim=1).real if now.mask.valid is None else _over_valid(features, now.mask.valid)
        return mixed.to(hidden.dtype)


def _over_valid(features: Tensor, valid: Tensor) -> Tensor:
    """The real part of the transform over the valid tokens of each row, as matrix products: rows differ in length."""
    count = valid.sum(dim=1)[:, None, None].clamp(min=1)  # (batch, 1, 1)
    place = valid.long().cumsum(dim=1) - 1  # (batch, length)
    turns = place[:, :, None] * place[:, None, :] % count / count  # (batch, length, length)
    both = valid[:, :, None] & valid[:, None, :]
    angle = 2 * math.pi * turns.to(features.real.dtype)
    return (angle.cos() * both) @ features.real + (angle.sin() * both) @ features.imag


@STACKS.register("fourier")
class FourierStack(Blocks):
    """Blocks that mix tokens by a fixed transform; every token sees every other, so it cannot serve a decoder."""

    decodes: ClassVar[bool] = False

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts, [parts.block(Fourier()) for _ in range(parts.side.layers)])
