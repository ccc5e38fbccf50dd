"""Dot-product attention for short sequences on a CPU in training, with its own backward.

torch's softmax over a last axis that is no multiple of the vector width takes up to ten times as long as the same sums
done element by element, and its fused backward in bfloat16 is slower still (docs/log.md). Here the scores stand in
float32 for a moment only; what is kept for the backward is the weights in the format of the values.
"""

from typing import Any

import torch
from torch import Tensor

from clearhead.model.fused import LONGEST, attend, can_attend


def is_short(query: Tensor, key: Tensor) -> bool:
    """True where this is faster than torch's fused kernel: short rows on a CPU."""
    return query.device.type == "cpu" and key.shape[2] <= LONGEST


def short_attention(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, bias: Tensor | None, scale: float
) -> Tensor:
    """softmax(scale * query key^T + bias) value, (batch, heads, queries, d_head).

    Args:
        query: (batch, heads, queries, d_head); key and value: (batch, heads, keys, d_head).
        allowed: bool, broadcasts to (batch, heads, queries, keys), True = visible; None = all are.
        bias: broadcasts likewise, added to the scores; None = nothing to add.
        scale: factor of the scores.

    A query that sees no key gets zeros.
    """
    if bias is None and can_attend(query, key, value):
        return attend(query, key, value, allowed, scale)
    if allowed is not None:
        hidden = query.new_zeros(()).masked_fill(~allowed, -torch.inf)
        bias = hidden if bias is None else bias + hidden
    mixed: Tensor = _ShortAttention.apply(query, key, value, bias, scale)  # type: ignore[no-untyped-call]
    return mixed


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
        exact = torch.promote_types(query.dtype, torch.float32)
        scores = (query @ key.transpose(-1, -2)).to(exact)  # (batch, heads, queries, keys)
        scores = scores.mul_(scale) if bias is None else torch.add(bias.to(exact), scores, alpha=scale)
        weights = _softmax_(scores).to(value.dtype)
        mixed = weights @ value  # (batch, heads, queries, d_head)
        ctx.save_for_backward(query, key, value, weights, mixed)
        ctx.scale, ctx.bias = scale, None if bias is None else (bias.shape, bias.dtype)
        return mixed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights, mixed = ctx.saved_tensors
        (grad,) = grads
        slope = grad @ value.transpose(-1, -2)  # (batch, heads, queries, keys), of the weights
        mean = (grad * mixed).sum(dim=-1, keepdim=True)  # (batch, heads, queries, 1), of weights * slope over keys
        slope = slope.sub_(mean).mul_(weights)  # of the scores
        bias = None
        if ctx.needs_input_grad[3]:
            shape, dtype = ctx.bias
            bias = slope.to(dtype).sum_to_size(shape)
        slope = slope.mul_(ctx.scale) if bias is None else slope * ctx.scale  # bias may be a view of it
        return slope @ key, slope.transpose(-1, -2) @ query, weights.transpose(-1, -2) @ grad, bias, None


def _softmax_(scores: Tensor) -> Tensor:
    """Softmax over the last axis in place; a row of nothing but -inf becomes zeros."""
    limits = torch.finfo(scores.dtype)
    largest = scores.amax(dim=-1, keepdim=True).clamp_(min=limits.min)
    weights = scores.sub_(largest).exp_()
    return weights.div_(weights.sum(dim=-1, keepdim=True).clamp_(min=limits.tiny))
