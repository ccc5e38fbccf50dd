"""Rotary position embedding in one pass, forward and backward."""

from ctypes import byref
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clearhead.model.fused.library import Rotation, Rows, by_rows, library, ready, rows_like, threads_for

PAIRS = 32  # features of two vectors: one holds the partners of the other


def can_rotate(states: Tensor, own: Tensor, partner: Tensor) -> bool:
    """Whether `rotate` can do this."""
    batch, _, rows, features = states.shape
    fits = own.shape == partner.shape and own.shape in ((1, 1, rows, features), (batch, 1, rows, features))
    some = states.numel() > 0 and features % PAIRS == 0
    return fits and some and own.dtype == partner.dtype and ready(states, own, partner)


def rotate(states: Tensor, own: Tensor, partner: Tensor) -> Tensor:
    """states * own + (states with the halves of the features exchanged) * partner, in the dtype of the states.

    Args:
        states: (batch, heads, rows, features), float32 or bfloat16.
        own, partner: (batch or 1, 1, rows, features).
    """
    turned: Tensor = _Rotate.apply(states, own.contiguous(), partner.contiguous())  # type: ignore[no-untyped-call]
    return turned


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, own: Tensor, partner: Tensor) -> Tensor:
        ctx.save_for_backward(own, partner)
        return _turned(states, own, partner, back=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        return _turned(slope, *ctx.saved_tensors, back=True), None, None


def _turned(states: Tensor, own: Tensor, partner: Tensor, *, back: bool) -> Tensor:
    states = by_rows(states)
    out = rows_like(states, states.dtype)
    call = Rotation(Rows.of(states), Rows.of(out), own.data_ptr(), partner.data_ptr())
    call.table_batch = 0 if len(own) == 1 else own.stride(0)
    call.batch, call.heads, call.rows, call.features = states.shape
    call.table_half, call.back = own.dtype == torch.bfloat16, back
    compiled = library()
    assert compiled is not None
    compiled.clearhead_rotate(byref(call), threads_for(states.numel()))
    return out
