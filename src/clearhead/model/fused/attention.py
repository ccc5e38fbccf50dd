"""Dot-product attention of short sequences in training, forward and backward, one head after another in the cache."""

from ctypes import byref
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clearhead.model.fused.library import Attention, Rows, by_rows, library, ready, rows_like, threads_for

LONGEST = 256  # keys; beyond, PyTorch's products in bfloat16 gain more than the cache does (docs/log.md)


def can_attend(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether `attend` can do this, and the text is short enough for it."""
    alike = query.shape[:2] == key.shape[:2] and query.shape[3] == key.shape[3] and key.shape == value.shape
    some = query.numel() > 0 and key.numel() > 0
    return alike and some and key.shape[2] <= LONGEST and ready(query, key, value)


def attend(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, scale: float) -> Tensor:
    """softmax(scale * query key^T) value, (batch, heads, queries, d_head) in the format of the values.

    Scores and weights are float32 whatever the inputs are, and only for a moment: the backward pass makes them again.

    Args:
        query: (batch, heads, queries, d_head); key and value: (batch, heads, keys, d_head); float32 or bfloat16.
        allowed: bool, broadcasts to (batch, heads, queries, keys), True = visible; None = all are.
        scale: factor of the scores.

    A query that sees no key gets zeros.
    """
    mixed: Tensor = _Attend.apply(query, key, value, allowed, scale)  # type: ignore[no-untyped-call]
    return mixed


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, scale: float) -> Tensor:
        query, key, value = (by_rows(each) for each in (query, key, value))
        out = rows_like(query, value.dtype)
        sums = query.new_empty(query.shape[:3], dtype=torch.float32)
        call = _call(query, key, value, allowed, sums, scale)
        call.out = Rows.of(out)
        _run(call, back=False)
        ctx.save_for_backward(query, key, value, allowed, sums)
        ctx.scale = scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, allowed, sums = ctx.saved_tensors
        slope = by_rows(slope)
        slopes = [rows_like(each, each.dtype) for each in (query, key, value)]
        call = _call(query, key, value, allowed, sums, ctx.scale)
        call.slope = Rows.of(slope)
        call.query_slope, call.key_slope, call.value_slope = map(Rows.of, slopes)
        _run(call, back=True)
        return *slopes, None, None


def _call(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, sums: Tensor, scale: float) -> Attention:
    batch, heads, queries, features = query.shape
    call = Attention(query=Rows.of(query), key=Rows.of(key), value=Rows.of(value), sums=sums.data_ptr(), scale=scale)
    call.batch, call.heads, call.queries, call.keys, call.features = batch, heads, queries, key.shape[2], features
    if allowed is not None:
        call.seen = allowed.data_ptr()
        strides = allowed.expand(batch, heads, queries, key.shape[2]).stride()
        call.seen_batch, call.seen_head, call.seen_row, call.seen_column = strides
    return call


def _run(call: Attention, *, back: bool) -> None:
    compiled = library()
    assert compiled is not None
    threads = threads_for(call.batch * call.heads * call.queries * call.features)
    if compiled.clearhead_attend(byref(call), back, threads):
        raise MemoryError("no memory for the scores of an attention")
