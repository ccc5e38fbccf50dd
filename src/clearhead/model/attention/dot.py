"""Scaled dot-product attention (Vaswani et al., 2017, section 3.2.1)."""

import torch.nn.functional as F
from torch import Tensor

from clearhead.core.errors import ConfigError
from clearhead.model.attention.base import ATTENTIONS, Scored, grouped, pair_bias
from clearhead.model.attention.short import is_short, short_attention
from clearhead.model.mask import AttentionMask, biased
from clearhead.model.position.base import Relation


@ATTENTIONS.register("dot")
class Dot(Scored):
    """softmax(scale * Q K^T + bias) V, by torch's fused kernel wherever the mask description allows it.

    Args:
        scale: factor of the scores, such as T5's 1.0; None = d_head^-exponent.
        exponent: how strongly the width damps the scores; the paper's square root is 0.5.
    """

    def __init__(
        self, heads: int, d_head: int, dropout: float, *, scale: float | None = None, exponent: float | None = None
    ) -> None:
        super().__init__(heads, d_head, dropout)
        self.scale = dot_scale(d_head, scale, exponent)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        if (self.training and self.dropout.rate) or relation.values is not None:
            return super().forward(query, key, value, mask, relation)
        key, value = grouped(key, query.shape[1]), grouped(value, query.shape[1])
        queries, keys = query.shape[2], key.shape[2]
        if self.training and is_short(query, key):
            allowed = mask.dense(queries, keys, query.device)
            return short_attention(query, key, value, allowed, pair_bias(mask, relation), self.scale)
        if relation.bias is None and mask.only_causal and queries == keys:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=self.scale)
        seen = _seen(mask, relation, query, keys)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=self.scale)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        return (self.scale * query) @ key.transpose(-1, -2)  # (batch, heads, queries, keys)


def dot_scale(d_head: int, scale: float | None, exponent: float | None) -> float:
    """The factor of the scores; a ConfigError where both of the two ways to say it are used."""
    if scale is not None and exponent is not None:
        raise ConfigError("scale and exponent say the same thing", remedy="set one of the two")
    return float(d_head ** -(0.5 if exponent is None else exponent)) if scale is None else scale


def _seen(mask: AttentionMask, relation: Relation, query: Tensor, keys: int) -> Tensor | None:
    """Mask and bias as the fused kernel takes them; what depends on this block's own queries is drawn for it alone."""
    if relation.bias is None:
        return mask.additive(query.shape[2], keys, query.device, query.dtype)
    return biased(mask.dense(query.shape[2], keys, query.device), pair_bias(mask, relation), query.dtype)
