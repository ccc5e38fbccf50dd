"""Convolutions in place of self-attention (Gehring et al., 2017, arXiv:1705.03122; dilated: Kalchbrenner et al., 2016).

A decoder's convolutions look back only. Cross-attention, feed-forward network and residuals are those of the model.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from clearhead.model.cache import LayerCache
from clearhead.model.forward_pass import Pass
from clearhead.model.stack.base import STACKS, Blocks, Parts, require_plain

Count = Annotated[int, Field(gt=0)]


class Convolution(nn.Module):
    """A convolution over the sequence with a gated linear unit; takes the place of self-attention in a block."""

    def __init__(self, d_model: int, width: int, dilation: int, *, causal: bool) -> None:
        super().__init__()
        self.dilation, self.reach = dilation, (width - 1) * dilation
        self.ahead = 0 if causal else self.reach // 2  # slots that are seen after the own one
        self.weight = nn.Parameter(torch.empty(2 * d_model, d_model, width))
        self.bias = nn.Parameter(torch.zeros(2 * d_model))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, hidden: Tensor, now: Pass, cache: LayerCache) -> Tensor:
        """(batch, length, d_model) -> the same shape; a cache keeps the inputs as if they were keys."""
        require_plain(now.mask)
        stored, _, _ = cache.extend(hidden[:, None], hidden[:, None, :, :0], now.positions)
        seen = stored[:, 0]  # (batch, keys, d_model)
        if now.mask.valid is not None:
            seen = seen * now.mask.valid[..., None]
        needed = hidden.shape[1] + self.reach - self.ahead
        recent = F.pad(seen[:, -needed:], (0, 0, max(0, needed - seen.shape[1]), self.ahead))
        return F.glu(F.conv1d(recent.mT, self.weight, self.bias, dilation=self.dilation).mT, dim=-1)


@STACKS.register("convolution")
class ConvolutionStack(Blocks):
    """Blocks whose tokens see only their neighbours, ever more of them with depth.

    After n layers a token sees 1 + (width - 1) * (1 + growth + ... + growth^(n - 1)) slots.

    Args:
        width: slots that one convolution reads.
        growth: how much wider apart they stand in each layer; 1 = side by side in all of them.
    """

    def __init__(self, parts: Parts, *, width: Count = 3, growth: Count = 2) -> None:
        side = parts.side
        dilations = [growth**index for index in range(side.layers)]
        mixers = (Convolution(side.d_model, width, each, causal=side.causal) for each in dilations)
        super().__init__(parts, [parts.block(each) for each in mixers])
