"""A norm with the axis that layer normalisation is often said to have: one mean and variance for a whole sentence."""

import torch
from torch import Tensor

from clearhead.model.norm import LayerNorm


class SentenceNorm(LayerNorm):
    """All features of all tokens of a sentence together to mean 0 and variance 1, then gain and bias."""

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        seen = torch.ones_like(hidden[..., :1]) if valid is None else valid[..., None].to(hidden.dtype)
        count = seen.sum(dim=(1, 2), keepdim=True) * hidden.shape[-1]  # (batch, 1, 1)
        mean = (hidden * seen).sum(dim=(1, 2), keepdim=True) / count
        centred = (hidden - mean) * seen
        variance = centred.square().sum(dim=(1, 2), keepdim=True) / count
        return centred * (variance + self.epsilon).rsqrt() * self.weight + self.bias
