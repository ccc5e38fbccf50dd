"""norm(hidden + dropout(update)) and its parts in one pass, forward and backward.

The mask of a dropout is a function of a seed and of the place of an element (numbers.h), so nothing of it is kept: the
backward pass makes it again. The seed is drawn from PyTorch's generator, on which a resumed run depends.
"""

from ctypes import byref
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clearhead.model.fused.library import Joining, library, ready, threads_for

LANES = 16  # numbers of a vector
MOST = 1 - 2**-16  # rate: one just below 1 must not divide by zero


def can_drop(hidden: Tensor) -> bool:
    """Whether `drop` can do this."""
    return hidden.numel() % LANES == 0 and ready(hidden)


def can_join(hidden: Tensor, update: Tensor, *of_norm: Tensor) -> bool:
    """Whether `join` can do this; of_norm: gain and bias."""
    features = hidden.shape[-1:]
    fits = hidden.shape == update.shape and features[0] % LANES == 0 and all(each.shape == features for each in of_norm)
    whole = all(each.dtype == torch.float32 for each in (hidden, *of_norm))
    return fits and whole and ready(hidden, update, *of_norm)


def drop(hidden: Tensor, rate: float) -> Tensor:
    """`hidden` with elements zeroed with probability `rate` and the others divided by 1 - rate."""
    dropped: Tensor = _Join.apply(None, hidden, None, None, 0.0, rate)  # type: ignore[no-untyped-call]
    return dropped


def join(
    hidden: Tensor,
    update: Tensor,
    rate: float,
    epsilon: float = 0.0,
    gain: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """The norm of hidden + dropout(update) over the last axis: layer normalisation, by the root mean square without a
    bias, and without a gain none.

    Args:
        hidden: (..., features) float32.
        update: of that shape, float32 or bfloat16.
        rate: of the dropout.
        epsilon: added to the variance or mean square.
        gain, bias: (features,) float32.

    Returns:
        float32, the shape of hidden.
    """
    joined: Tensor = _Join.apply(hidden, update, gain, bias, epsilon, rate)  # type: ignore[no-untyped-call]
    return joined


def can_norm(hidden: Tensor, gain: Tensor) -> bool:
    """Whether `rms_norm` can do this."""
    return can_join(hidden, hidden, gain)


def rms_norm(hidden: Tensor, gain: Tensor, epsilon: float) -> Tensor:
    """hidden (..., features), float32, divided by the root of its mean square + epsilon, times gain (features,)."""
    normed: Tensor = _Join.apply(None, hidden, gain, None, epsilon, 0.0)  # type: ignore[no-untyped-call]
    return normed


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor | None,
        update: Tensor,
        gain: Tensor | None,
        bias: Tensor | None,
        epsilon: float,
        rate: float,
    ) -> Tensor:
        update = update.contiguous()
        out = torch.empty_like(update, dtype=update.dtype if hidden is None else torch.float32)
        ctx.seed = int(torch.empty((), dtype=torch.int64).random_()) if rate else 0
        ctx.rate, ctx.epsilon, ctx.dtype = rate, epsilon, update.dtype
        call = _call(ctx, out, gain, bias)
        call.update, call.out = update.data_ptr(), out.data_ptr()
        if hidden is not None:
            hidden = hidden.contiguous()
            call.hidden = hidden.data_ptr()
        if gain is None:
            ctx.save_for_backward(None, None, None, None)
        else:
            alone = hidden is None and not rate and update.dtype == torch.float32
            total = update if alone else torch.empty_like(out)  # what is the sum already is not written again
            moments = out.new_empty(call.tokens, 2)
            call.sum, call.moments = total.data_ptr(), moments.data_ptr()
            ctx.save_for_backward(gain, bias, total, moments)
        _run(call, back=False)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        gain, bias, total, moments = ctx.saved_tensors
        slope = slope.contiguous()
        call = _call(ctx, slope, gain, bias)
        update_slope = torch.empty_like(slope, dtype=ctx.dtype)
        call.slope, call.update_slope = slope.data_ptr(), update_slope.data_ptr()
        hidden_slope, shares = slope, None  # of a sum
        if gain is not None:
            shares = slope.new_zeros(threads_for(slope.numel()), 2, call.features)
            call.sum, call.moments, call.shares = total.data_ptr(), moments.data_ptr(), shares.data_ptr()
            if ctx.needs_input_grad[0]:
                hidden_slope = torch.empty_like(slope)
                call.hidden_slope = hidden_slope.data_ptr()
        _run(call, back=True)
        of_gain, of_bias = (None, None) if shares is None else shares.sum(dim=0).unbind()
        of_hidden, of_bias = hidden_slope if ctx.needs_input_grad[0] else None, None if bias is None else of_bias
        return of_hidden, update_slope, of_gain, of_bias, None, None


def _call(ctx: Any, out: Tensor, gain: Tensor | None, bias: Tensor | None) -> Joining:
    """What a forward and a backward pass have in common; without a norm it does not matter where a token ends."""
    features = LANES if gain is None else out.shape[-1]
    call = Joining(tokens=out.numel() // features, features=features, seed=ctx.seed, rate=min(ctx.rate, MOST))
    call.epsilon = ctx.epsilon
    call.gain, call.bias = (None if each is None else each.data_ptr() for each in (gain, bias))
    call.half, call.half_out = ctx.dtype == torch.bfloat16, out.dtype == torch.bfloat16
    return call


def _run(call: Joining, *, back: bool) -> None:
    compiled = library()
    assert compiled is not None
    compiled.clearhead_join(byref(call), back, threads_for(call.tokens * call.features))
