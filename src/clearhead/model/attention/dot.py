"""Scaled dot-product attention (Vaswani et al., 2017, section 3.2.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from clearhead.model.attention.base import ATTENTIONS, Kernel, grouped
from clearhead.model.dropout import Dropout
from clearhead.model.mask import AttentionMask


@ATTENTIONS.register("dot")
class Dot(Kernel):
    """softmax(scale * Q K^T + bias) V, by torch's fused kernel wherever the mask description allows it.

    Args:
        scale: factor of the scores; None = 1 / sqrt(d_head).
    """

    def __init__(self, heads: int, d_head: int, dropout: float, *, scale: float | None = None) -> None:
        super().__init__(heads, d_head, dropout)
        self.scale = d_head**-0.5 if scale is None else scale
        self.dropout = Dropout(dropout)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, bias: Tensor | None) -> Tensor:
        key, value = grouped(key, query.shape[1]), grouped(value, query.shape[1])
        if (self.training and self.dropout.rate) or _fused_backward_is_slow(query, key):
            weights: Tensor = self.dropout(self.weights(query, key, mask, bias))
            return weights.to(value.dtype) @ value  # a bias in float32 lifts the weights above bfloat16
        queries, keys = query.shape[2], key.shape[2]
        if bias is None and mask.only_causal and queries == keys:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=self.scale)
        allowed = mask.dense(queries, keys, query.device)
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=additive(allowed, bias, query.dtype), scale=self.scale
        )

    def weights(self, query: Tensor, key: Tensor, mask: AttentionMask, bias: Tensor | None) -> Tensor:
        scores = (self.scale * query) @ grouped(key, query.shape[1]).transpose(-1, -2)  # (batch, heads, queries, keys)
        return masked_softmax(scores if bias is None else scores + bias, mask)


def _fused_backward_is_slow(query: Tensor, key: Tensor) -> bool:
    """torch's fused CPU backward in bfloat16 is slower than the plain formula up to some 500 keys (docs/log.md)."""
    return query.device.type == "cpu" and query.requires_grad and query.dtype == torch.bfloat16 and key.shape[2] <= 512


def additive(allowed: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """What the fused kernel takes: the mask itself, or the bias where a key is visible and -inf where it is hidden."""
    if bias is None:
        return allowed
    return bias.to(dtype) if allowed is None else bias.to(dtype).masked_fill(~allowed, -torch.inf)


def masked_softmax(scores: Tensor, mask: AttentionMask) -> Tensor:
    """Softmax over the visible keys; a row that sees none becomes zeros instead of NaN, its gradient too."""
    allowed = mask.dense(scores.shape[-2], scores.shape[-1], scores.device)
    if allowed is None:
        return scores.softmax(dim=-1)
    sees = allowed.any(dim=-1, keepdim=True)
    weights = (scores + scores.new_zeros(()).masked_fill(~allowed & sees, -torch.inf)).softmax(dim=-1)
    return weights if bool(sees.all()) else weights * sees
