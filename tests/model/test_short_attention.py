"""Attention for short sequences against torch's math kernel and finite differences."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from clearhead.model.attention.short import short_attention


def inputs(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = [(3, 2, 7, 4), (3, 2, 5, 4), (3, 2, 5, 4)]
    return [torch.randn(each, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for each in shapes]


def allowed() -> torch.Tensor:
    mask = torch.rand(3, 1, 7, 5, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize("mask", [None, allowed()], ids=["open", "masked"])
@pytest.mark.parametrize("biased", [False, True])
def test_forward_and_gradients_equal_the_math_kernel(mask, biased):
    query, key, value = inputs()
    bias = torch.randn(1, 2, 7, 5, dtype=torch.float64, requires_grad=True) if biased else None
    ours = short_attention(query, key, value, mask, bias, 0.7)
    drawn = torch.zeros(3, 2, 7, 5, dtype=torch.float64) if bias is None else bias.expand(3, -1, -1, -1)
    if mask is not None:
        drawn = drawn.masked_fill(~mask, -torch.inf)
    with sdpa_kernel(SDPBackend.MATH):
        theirs = F.scaled_dot_product_attention(query, key, value, attn_mask=drawn, scale=0.7)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    grad = torch.randn_like(ours)
    leaves = [query, key, value] + ([bias] if biased else [])
    for one, other in zip(
        torch.autograd.grad(ours, leaves, grad), torch.autograd.grad(theirs, leaves, grad), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_gradcheck():
    assert torch.autograd.gradcheck(lambda q, k, v: short_attention(q, k, v, allowed(), None, 0.5), inputs())


def test_a_query_that_sees_no_key_gets_zeros_and_gives_no_gradient():
    query, key, value = inputs()
    mask = allowed()
    mask[1, 0, 3] = False
    mixed = short_attention(query, key, value, mask, None, 0.5)
    assert (mixed[1, :, 3] == 0).all()
    (grad,) = torch.autograd.grad(mixed.sum(), [query])
    assert (grad[1, :, 3] == 0).all()
    assert grad.isfinite().all()


def test_large_scores_neither_overflow_nor_vanish():
    query, key, value = inputs(torch.float32)
    mixed = short_attention(1e4 * query, key, value, None, None, 1.0)
    exact = ((1e4 * query.double()) @ key.double().transpose(-1, -2)).softmax(-1) @ value.double()
    torch.testing.assert_close(mixed.double(), exact, rtol=0, atol=1e-3)


def test_bfloat16_stays_near_float64():
    exact = short_attention(*inputs(), None, None, 0.5)
    half = short_attention(*inputs(torch.bfloat16), None, None, 0.5)
    assert (exact - half.double()).abs().max() < 0.03
