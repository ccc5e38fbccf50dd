"""What is computed in C in a training step against PyTorch: values, gradients, masks, and when it steps aside."""

import ctypes
import subprocess

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from clearhead.model import ModelConfig, Transformer, dropout
from clearhead.model.attention import short
from clearhead.model.fused import (
    attend,
    can_attend,
    can_drop,
    can_join,
    can_norm,
    can_rotate,
    can_slope,
    drop,
    join,
    rms_norm,
    rotate,
    slope_,
)
from clearhead.model.fused import library as fused_library
from clearhead.model.norm import rmsnorm
from clearhead.model.position import rotary
from clearhead.model.residual import base

needs_compiler = pytest.mark.skipif(fused_library.library() is None, reason=fused_library.why_not() or "")
pytestmark = needs_compiler
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2}


def draw(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()


def close(own, other, dtype):
    torch.testing.assert_close(own.double(), other.double(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def hidden_pairs(kind, batch, heads, queries, keys):
    if kind == "window":  # blocks before and behind that no query of a block sees
        far = torch.arange(keys) - torch.arange(queries)[:, None] - (keys - queries)
        return ((far <= 0) & (far > -5))[None, None]
    if kind == "open":
        return None
    if kind == "causal":
        return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)[None, None]
    shape = {"padding": (batch, 1, 1, keys), "any": (batch, heads, queries, keys)}[kind]
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.6
    mask[0, 0, 0] = False  # a query without a key
    return mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", ["open", "causal", "window", "padding", "any"])
@pytest.mark.parametrize(
    "sizes",
    [
        (1, 1, 1, 1, 1),
        (3, 2, 20, 20, 32),
        (2, 3, 7, 33, 20),
        (2, 2, 45, 17, 64),
        (1, 2, 9, 128, 8),
        (1, 2, 256, 256, 64),
        (1, 1, 70, 91, 16),
    ],
)
def test_attention_equals_the_math_kernel(dtype, mask, sizes):
    batch, heads, queries, keys, features = sizes
    leaves = [draw(batch, heads, count, features, dtype=dtype, seed=i) for i, count in enumerate((queries, keys, keys))]
    allowed = hidden_pairs(mask, batch, heads, queries, keys)
    assert can_attend(*leaves)
    own = attend(*leaves, allowed, 0.3)
    exact = [each.detach().double().requires_grad_() for each in leaves]
    scores = 0.3 * exact[0] @ exact[1].transpose(-1, -2)
    seen = torch.ones(()).bool() if allowed is None else allowed
    weights = scores.masked_fill(~seen, -1e30).softmax(-1) * seen
    other = weights @ exact[2]
    close(own, other, dtype)
    slope = draw(batch, heads, queries, features, seed=9).detach()
    found = torch.autograd.grad(own, leaves, slope.to(dtype))
    for one, two in zip(found, torch.autograd.grad(other, exact, slope.to(dtype).double()), strict=True):
        assert one.dtype == dtype
        close(one, two, dtype)


def test_attention_reads_views_and_repeated_heads():
    together = draw(3, 11, 3, 2, 32)  # (batch, tokens, query key value, heads, features)
    query, key, value = (each.transpose(1, 2) for each in together.unbind(2))
    key = key[:, :1].expand(-1, 2, -1, -1)
    with sdpa_kernel(SDPBackend.MATH):
        other = F.scaled_dot_product_attention(query, key, value, scale=0.2)
    own = attend(query, key, value, None, 0.2)
    close(own, other, torch.float32)
    slope = draw(3, 11, 2, 32, seed=4).detach().transpose(1, 2)
    (one,), (two,) = (torch.autograd.grad(each, [together], slope) for each in (own, other))
    close(one, two, torch.float32)
    assert own.transpose(1, 2).is_contiguous()
    turned = query.detach().transpose(2, 3).contiguous().transpose(2, 3)  # features apart
    close(attend(turned, key, value, None, 0.2), other, torch.float32)


def test_masks_may_lie_in_memory_as_they_like():
    leaves = [draw(2, 2, 40, 16, seed=i) for i in range(3)]
    mask = torch.ones(40, 40, dtype=torch.bool).tril()
    along = torch.zeros(40, 1, dtype=torch.bool).index_fill(0, torch.tensor([0, 20]), True).expand(40, 40)
    for given in (mask.T.contiguous().T, mask[:, :1].expand(40, 40), along):
        assert given.stride() != (40, 1)
        own, other = (attend(*leaves, each[None, None], 0.2) for each in (given, given.contiguous()))
        assert torch.equal(own, other)
        for one, two in zip(*(torch.autograd.grad(each.sum(), leaves) for each in (own, other)), strict=True):
            assert torch.equal(one, two)


def test_large_scores_neither_overflow_nor_vanish():
    query, key, value = (draw(2, 2, 20, 16, seed=i) for i in range(3))
    own = attend(1e4 * query, key, value, None, 1.0)
    best = (query @ key.transpose(-1, -2)).argmax(-1)
    close(own, value.gather(2, best[..., None].expand_as(own)), torch.float32)
    assert all(each.isfinite().all() for each in torch.autograd.grad(own.sum(), (query, key, value)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(1, 16), (5, 7, 48), (2, 3000, 32)])
def test_joining_equals_torch_with_the_same_mask(dtype, normed, rate, shape):
    hidden, update = draw(*shape), draw(*shape, dtype=dtype, seed=1)
    gain, bias = (draw(shape[-1], seed=2), draw(shape[-1], seed=3)) if normed else (None, None)
    assert can_join(hidden, update)
    torch.manual_seed(7)
    mask = drop(torch.ones(shape), rate) if rate else torch.ones(shape)
    torch.manual_seed(7)
    own = join(hidden, update, rate, 1e-5, gain, bias)
    leaves = [each for each in (hidden, update, gain, bias) if each is not None]
    exact = [each.detach().double().requires_grad_() for each in leaves]
    other = exact[0] + exact[1] * mask.double()
    if normed:
        other = F.layer_norm(other, shape[-1:], exact[2], exact[3], 1e-5)
    assert own.dtype == torch.float32
    close(own, other, torch.float32)
    slope = draw(*shape, seed=4).detach()
    for leaf, one, two in zip(
        leaves, torch.autograd.grad(own, leaves, slope), torch.autograd.grad(other, exact, slope.double()), strict=True
    ):
        assert one.dtype == leaf.dtype
        torch.testing.assert_close(one.double(), two, rtol=TOLERANCE[leaf.dtype], atol=TOLERANCE[leaf.dtype] * 10)


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(1, 16), (5, 7, 48), (2, 3000, 32)])
def test_root_mean_square_norms_equal_torch(rate, shape):
    hidden, update, gain = draw(*shape), draw(*shape, seed=1), draw(shape[-1], seed=2)
    assert can_norm(hidden, gain)
    torch.manual_seed(7)
    mask = drop(torch.ones(shape), rate) if rate else torch.ones(shape)
    torch.manual_seed(7)
    exact = [each.detach().double().requires_grad_() for each in (hidden, update, gain)]
    before = hidden.detach().clone()
    pairs = [
        (join(hidden, update, rate, 1e-5, gain), exact[0] + exact[1] * mask, (0, 1, 2)),
        (rms_norm(hidden, gain, 1e-5), exact[0], (0, 2)),
    ]
    assert torch.equal(hidden, before)
    slope = draw(*shape, seed=4).detach()
    for own, total, used in pairs:
        other = F.rms_norm(total, shape[-1:], exact[2], 1e-5)
        close(own, other, torch.float32)
        leaves = [(hidden, update, gain)[index] for index in used]
        found = torch.autograd.grad(own, leaves, slope)
        expected = torch.autograd.grad(other, [exact[index] for index in used], slope.double())
        for one, two in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double(), two, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batched", [False, True])
def test_rotation_equals_torch_forward_and_backward(dtype, batched):
    states = draw(3, 9, 2, 64, dtype=dtype).transpose(1, 2)  # (batch, heads, rows, features)
    own, partner = (draw(3 if batched else 1, 1, 9, 64, dtype=dtype, seed=seed).detach() for seed in (1, 2))
    assert can_rotate(states, own, partner)
    turned = rotate(states, own, partner)
    exact = states.detach().double().requires_grad_()
    other = exact * own.double() + exact.roll(32, dims=-1) * partner.double()
    close(turned, other, dtype)
    slope = draw(3, 2, 9, 64, seed=5).detach().to(dtype)
    for given in (slope, slope.transpose(2, 3).contiguous().transpose(2, 3)):
        (one,), (two,) = (
            torch.autograd.grad(out, [leaf], given.to(out.dtype), retain_graph=True)
            for out, leaf in ((turned, states), (other, exact))
        )
        close(one, two, dtype)


@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("place", ["lowest", "highest"])
def test_rotary_positions_turn_alike_with_and_without(place, fraction):
    rope, states = rotary.Rotary(128, 2, 64, 9, fraction=fraction), draw(3, 2, 9, 64)
    turns = rope.turns(torch.arange(9)[None] + (0 if place == "lowest" else 5000), torch.float32)
    own = rope.rotate(states, turns)
    assert ("_Rotate" in str(own.grad_fn)) == (fraction == 1.0)
    other = rope.eval().rotate(states, turns)
    assert "_Rotate" not in str(other.grad_fn)
    close(own, other, torch.float32)
    slope = draw(3, 2, 9, 64, seed=1).detach()
    close(*(torch.autograd.grad(each, [states], slope)[0] for each in (own, other)), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.999999])
def test_dropout_drops_so_many_keeps_the_mean_and_goes_back_the_same_way(dtype, rate):
    torch.manual_seed(0)
    ones = torch.ones(1000, 1024, dtype=dtype, requires_grad=True)
    assert can_drop(ones)
    dropped = drop(ones, rate)
    share = (dropped == 0).double().mean().item()
    assert share == pytest.approx(rate, abs=2e-3)
    assert dropped.dtype == dtype
    assert set(dropped.detach().unique().tolist()) <= {
        0.0,
        torch.tensor(1 / (1 - min(rate, 1 - 2**-16))).to(dtype).item(),
    }
    (slope,) = torch.autograd.grad(dropped.sum(), ones)
    assert torch.equal(slope, dropped.detach())


def test_masks_differ_from_call_to_call_and_have_no_pattern():
    torch.manual_seed(1)
    first, second = (drop(torch.ones(4096, 256), 0.5) != 0 for _ in range(2))
    for one, other in (
        (first, second),
        (first[1:], first[:-1]),
        (first[:, 1:], first[:, :-1]),
        (first[64:], first[:-64]),
    ):
        assert (one == other).double().mean().item() == pytest.approx(0.5, abs=3e-3)
    for axis in (0, 1):  # sums of rows and of columns spread as those of coins do
        sums = first.double().sum(axis)
        assert sums.std().item() == pytest.approx((first.shape[axis] / 4) ** 0.5, rel=0.15)
    torch.manual_seed(1)
    assert torch.equal(drop(torch.ones(4096, 256), 0.5) != 0, first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("words", [1, 5, 16, 1000, 6007])
@pytest.mark.parametrize("taught", [False, True])
def test_slopes_equal_softmax_minus_what_is_to_be_met(dtype, words, taught):
    logits = (8 * draw(33, words)).detach().to(dtype)
    logits[3] *= 1000
    labels = torch.randint(words, (33,), generator=torch.Generator().manual_seed(1))
    exact = logits.double()
    expected = exact.softmax(-1)
    expected[torch.arange(33), labels] -= 0.9
    assert can_slope(logits)
    theirs = (8 * draw(33, words, seed=2)).detach().to(dtype) if taught else None
    if theirs is None:
        lost, apart = slope_(logits, labels, 0.9)
        assert not apart.any()
    else:
        assert can_slope(logits, theirs)
        lost, apart = slope_(logits, labels, 0.9, theirs, 0.4)
        other = theirs.double().softmax(-1)
        expected -= 0.4 * other
        mean = exact[torch.arange(33), labels] - (other * exact).sum(-1)
        torch.testing.assert_close(apart.double(), mean, rtol=1e-4, atol=1e-4)
    close(logits, expected, dtype)
    torch.testing.assert_close(lost.double(), F.cross_entropy(exact, labels, reduction="none"), rtol=1e-5, atol=1e-5)


def test_what_is_no_number_stays_none():
    query, key, value = (draw(1, 1, 20, 16, seed=i).detach() for i in range(3))
    query[0, 0, 3, 2] = torch.nan
    mixed = attend(query, key, value, None, 0.2)
    assert mixed[0, 0, 3].isnan().all()
    assert mixed.isnan().any(-1).sum() == 1
    key[0, 0, 5, 1] = torch.inf
    mixed = attend(query.nan_to_num().requires_grad_(), key, value, None, 0.2)
    with sdpa_kernel(SDPBackend.MATH):
        other = F.scaled_dot_product_attention(query.nan_to_num(), key, value, scale=0.2)
    assert torch.equal(mixed.isnan(), other.isnan())
    logits = draw(3, 40).detach()
    logits[1, 5] = torch.nan
    logits[2] = torch.nan
    lost, _ = slope_(logits, torch.tensor([1, 2, 3]), 1.0)
    assert lost.isnan().tolist() == [False, True, True]
    assert logits.isnan().all(-1).tolist() == [False, True, True]


def test_parts_that_were_told_not_to_drop_do_not():
    model = small(residual="pre", dropout=0.5)
    residual, states = model.decoder.blocks[0].attention_residual, draw(2, 4, 64).detach()
    residual.dropout.eval()
    assert torch.equal(residual.added(states, states), states + states)
    residual = small(dropout=0.5).decoder.blocks[0].attention_residual
    residual.dropout.eval()
    assert torch.equal(*(residual.normed(states, states, None) for _ in range(2)))
    residual.norm.bfloat16()
    with pytest.raises(RuntimeError, match="mixed dtype"):  # as torch has it
        residual.normed(states, states, None)


def small(**changes):
    torch.manual_seed(0)
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 64, "heads": 2, "d_ff": 64}
    return Transformer(ModelConfig(**sizes, source_vocab=19, target_vocab=19, **changes)).train()


PARTS = [
    (short, "can_attend"),
    (base, "can_join"),
    (dropout, "can_drop"),
    (rmsnorm, "can_norm"),
    (rotary, "can_rotate"),
]


def passed(model, monkeypatch, *, compiled):
    """Output and gradients of a training pass, by the compiled functions or without them."""
    with monkeypatch.context() as patch:
        if not compiled:
            for module, name in PARTS:
                patch.setattr(module, name, lambda *_: False)
        torch.manual_seed(5)
        source, target = (torch.randint(1, 19, (4, length)) for length in (9, 6))
        valid = torch.arange(9) < torch.tensor([9, 3, 7, 1])[:, None]
        model.zero_grad()
        hidden = model(source, target, source_valid=valid)
        hidden.square().sum().backward()
        return hidden.detach(), {name: each.grad for name, each in model.named_parameters()}


@pytest.mark.parametrize("residual", ["post", "pre", "sandwich", "deepnorm"])
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize("position", ["sinusoidal", "rope", "alibi"])
def test_a_model_trains_alike_with_and_without(residual, norm, position, monkeypatch):
    model = small(residual=residual, norm=norm, position=position, dropout=0.0)
    (own, own_grads), (other, other_grads) = (passed(model, monkeypatch, compiled=each) for each in (True, False))
    torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)
    for name, each in own_grads.items():
        torch.testing.assert_close(each, other_grads[name], rtol=1e-3, atol=1e-4)


def test_who_watches_a_part_sees_it(monkeypatch):
    model, seen = small(dropout=0.3), []
    model.decoder.blocks[0].attention_residual.norm.register_forward_hook(lambda *_: seen.append("norm"))
    model.decoder.blocks[1].cross_residual.dropout.register_forward_hook(lambda *_: seen.append("dropout"))
    passed(model, monkeypatch, compiled=True)
    assert seen == ["norm", "dropout"]


def test_what_does_not_fit_is_left_to_torch():
    double, wide = draw(2, 2, 4, 16).double(), draw(1, 1, 4, 16).expand(1, 1, 4, 16)
    assert not can_attend(double, double, double)
    assert not can_attend(wide, draw(1, 1, 257, 16), draw(1, 1, 257, 16))
    assert not can_join(draw(2, 24), draw(2, 24))
    assert not can_join(draw(2, 32, dtype=torch.bfloat16), draw(2, 32, dtype=torch.bfloat16))
    assert not can_join(draw(2, 32), draw(1, 32))
    assert not can_join(draw(2, 32), draw(2, 32), draw(32).bfloat16(), draw(32))
    assert not can_attend(draw(2, 2, 4, 16), draw(1, 1, 4, 16), draw(1, 1, 4, 16))
    assert not can_attend(*(draw(1, 1, 4, 16) for _ in range(2)), draw(1, 1, 4, 8))
    assert not can_slope(draw(2, 4), draw(2, 4, dtype=torch.bfloat16))
    assert not can_slope(draw(2, 4), draw(2, 5))
    tables = draw(1, 1, 4, 32).detach(), draw(1, 1, 4, 32).detach()
    assert can_rotate(draw(2, 2, 4, 32), *tables)
    assert not can_rotate(draw(2, 2, 4, 48), *(each.repeat(1, 1, 1, 2)[..., :48] for each in tables))
    assert not can_rotate(draw(2, 2, 5, 32), *tables)
    assert not can_rotate(draw(2, 2, 4, 32), tables[0], tables[1].bfloat16())
    assert not can_norm(draw(2, 32), draw(32).double())
    assert not can_drop(draw(3, 5))
    assert not can_drop(draw(4, 4).double())


def test_structures_have_the_sizes_of_c():
    sizes = (ctypes.c_int64 * 4)()
    fused_library.library().clearhead_fused_sizes(sizes)
    names = ("Attention", "Joining", "Slopes", "Rotation")
    assert list(sizes) == [ctypes.sizeof(getattr(fused_library, each)) for each in names]


def test_the_source_has_no_warnings():
    flags = ["-O2", "-fopenmp", "-Wall", "-Wextra", "-Wno-psabi", "-Werror", "-fsyntax-only"]
    subprocess.run(["cc", *flags, str(fused_library.SOURCE)], check=True)
