"""Masks as sets of pairs, and kernels that see exactly the visible keys."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_twin import close

from clearhead.core.registry import Choice
from clearhead.model import CAUSAL, OPEN, AttentionMask
from clearhead.model.attention import ATTENTIONS, Kernel
from clearhead.model.position import UNRELATED, Relation

BATCH, HEADS, QUERIES, KEYS, WIDTH = 3, 2, 5, 7, 4
OBEDIENT = [each for each in ATTENTIONS.names() if ATTENTIONS.get(each).any_mask]
EACH_ATTENTION = pytest.mark.parametrize("name", OBEDIENT)
EACH_RELATION = pytest.mark.parametrize(
    ("name", "biased"),
    [(name, biased) for name in OBEDIENT for biased in (False, True) if ATTENTIONS.get(name).biases or not biased],
)
EACH_PATH = pytest.mark.parametrize("dropout", [0.0, 0.3], ids=["fused", "explicit"])
double = pytest.mark.usefixtures("double")


def kernel(name: str, dropout: float = 0.0) -> Kernel:
    return ATTENTIONS.build(Choice(kind=name), HEADS, WIDTH, dropout)


def states(length: int, dtype: torch.dtype | None = None) -> Tensor:
    return torch.randn(BATCH, HEADS, length, WIDTH, dtype=dtype).requires_grad_()


def random_mask(seed: int) -> AttentionMask:
    """Any combination of rules, from a seed."""
    draw = torch.Generator().manual_seed(seed)

    def integer(end: int) -> int:
        return int(torch.randint(end, (1,), generator=draw))

    def chance(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw) < 0.7

    shapes = [(QUERIES, KEYS), (BATCH, 1, QUERIES, KEYS), (BATCH, HEADS, QUERIES, KEYS), (HEADS, 1, KEYS)]
    return AttentionMask(
        causal=integer(2) == 1,
        window=[None, 1 + integer(KEYS)][integer(2)],
        valid=chance(BATCH, KEYS) if integer(2) else None,
        segments=torch.randint(-2, 2, (BATCH, KEYS), generator=draw) if integer(2) else None,
        allowed=chance(*shapes[integer(4)]) if integer(2) else None,
        own=integer(4) > 0,
        prefix=chance(BATCH, KEYS) if integer(2) else None,
    )


def drawn(mask: AttentionMask, queries: int = QUERIES) -> Tensor:
    """The whole mask, (BATCH, HEADS, queries, KEYS)."""
    dense = mask.dense(queries, KEYS, torch.device("cpu"))
    return torch.ones(BATCH, HEADS, queries, KEYS, dtype=torch.bool) & (True if dense is None else dense)


def visible(mask: AttentionMask, batch: int, head: int, query: int, key: int) -> bool:
    """The rules one by one, for one pair."""
    slot = KEYS - QUERIES + query
    before = key <= slot or (mask.prefix is not None and bool(mask.prefix[batch, key]))
    rules = [not mask.causal or before, mask.window is None or abs(slot - key) < mask.window, mask.own or slot != key]
    rules.append(mask.valid is None or bool(mask.valid[batch, key]))
    rules.append(mask.segments is None or bool(mask.segments[batch, slot] == mask.segments[batch, key]))
    if mask.allowed is not None:
        rules.append(bool(mask.allowed.expand(BATCH, HEADS, QUERIES, KEYS)[batch, head, query, key]))
    return all(rules)


SEEDS = st.integers(0, 2**32)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_a_mask_is_its_rules_one_by_one(seed):
    mask = random_mask(seed)
    for index, found in zip(
        torch.cartesian_prod(*map(torch.arange, (BATCH, HEADS, QUERIES, KEYS))).tolist(),
        drawn(mask).flatten().tolist(),
        strict=True,
    ):
        assert found == visible(mask, *index)


@given(SEEDS, SEEDS, SEEDS)
@settings(max_examples=60, deadline=None)
def test_masks_compose_like_sets(first, second, third):
    a, b, c = map(random_mask, (first, second, third))
    assert torch.equal(drawn(a & b), drawn(a) & drawn(b))
    assert torch.equal(drawn(a & b), drawn(b & a))
    assert torch.equal(drawn((a & b) & c), drawn(a & (b & c)))
    assert torch.equal(drawn(a & a), drawn(a))
    assert torch.equal(drawn(a & OPEN), drawn(a))
    assert a.valid is None or torch.equal(drawn(b.padded(a.valid)), drawn(b & AttentionMask(valid=a.valid)))


def test_composed_segments_hold_for_the_newest_queries_too():
    left, right = (AttentionMask(segments=torch.randint(3, (BATCH, KEYS))) for _ in range(2))
    assert torch.equal(drawn(left & right, queries=1), drawn(left & right, queries=KEYS)[:, :, -1:])


def test_only_the_bare_causal_rule_takes_the_causal_kernel():
    assert CAUSAL.only_causal
    assert not OPEN.only_causal
    some = torch.ones(3, 3)
    tensors = ("valid", "segments", "allowed", "added", "prefix")
    for more in ({"window": 2}, {"own": False}, *({each: some} for each in tensors)):
        assert not AttentionMask(causal=True, **more).only_causal


@double
@EACH_ATTENTION
@pytest.mark.parametrize("grad", [True, False])
def test_a_masked_key_is_as_if_it_were_not_there(name, grad):
    part = kernel(name)
    with torch.set_grad_enabled(grad):
        for seed in range(200):
            mask = random_mask(seed)
            query, key, value = states(QUERIES), states(KEYS), states(KEYS)
            found, seen = part(query, key, value, mask, UNRELATED), drawn(mask)
            b, h, q = seed % BATCH, seed % HEADS, seed % QUERIES
            keys = seen[b, h, q].nonzero()[:, 0]
            if len(keys) == 0:
                assert not found[b, h, q].any()
                continue
            one = slice(b, b + 1)
            alone = part(query[one][:, :, q : q + 1], key[one][:, :, keys], value[one][:, :, keys], OPEN, UNRELATED)
            close(found[b, h, q], alone[0, h, 0])


@EACH_RELATION
@EACH_PATH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_query_without_keys_gives_zeros_and_finite_gradients(name, dropout, biased, dtype):
    part = kernel(name, dropout).train()
    query, key, value = (states(length, dtype) for length in (QUERIES, KEYS, KEYS))
    bias = torch.randn(1, HEADS, QUERIES, KEYS).requires_grad_() if biased else None
    relation = Relation(bias)
    allowed = torch.rand(BATCH, 1, QUERIES, KEYS) < 0.5
    allowed[:, :, 2] = allowed[1] = False
    mixed = part(query, key, value, AttentionMask(allowed=allowed), relation)
    assert mixed.dtype == dtype
    assert not mixed[:, :, 2].any()
    assert not mixed[1].any()
    mixed.square().sum().backward()
    for each in (query, key, value, *([bias] if biased else [])):
        assert each.grad.isfinite().all()
    assert not query.grad[:, :, 2].any()
    with torch.inference_mode():
        assert not part.eval()(query, key, value, AttentionMask(allowed=allowed), relation)[1].any()


@EACH_RELATION
def test_training_and_inference_take_different_paths_to_the_same_values(name, biased):
    part = kernel(name)
    relation = Relation(torch.randn(1, HEADS, QUERIES, KEYS) if biased else None)
    for seed in range(20):
        query, key, value = (states(length) for length in (QUERIES, KEYS, KEYS))
        exact = part.weights(query, key, random_mask(seed), relation) @ value
        torch.testing.assert_close(part(query, key, value, random_mask(seed), relation), exact, rtol=0, atol=1e-5)
        rounded = [each.to(torch.bfloat16) for each in (query, key, value)]  # with gradients: the explicit path
        torch.testing.assert_close(part(*rounded, random_mask(seed), relation).float(), exact, rtol=0, atol=0.1)


@double
@EACH_RELATION
def test_the_gradient_of_a_kernel_is_right(name, biased):
    query, key, value = (states(length) for length in (3, 4, 4))
    mask = AttentionMask(causal=True, valid=torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 1, 1]]).bool())
    bias = torch.randn(1, HEADS, 3, 4).requires_grad_()
    part = kernel(name)
    inputs = (query, key, value, bias) if biased else (query, key, value)
    assert torch.autograd.gradcheck(lambda *given: part(*given[:3], mask, Relation(*given[3:])), inputs)


@double
@EACH_ATTENTION
def test_grouped_heads_are_repeated_heads(name):
    part = ATTENTIONS.build(Choice(kind=name), 6, WIDTH, 0.0)
    query = torch.randn(BATCH, 6, QUERIES, WIDTH)
    key, value = torch.randn(2, BATCH, 2, KEYS, WIDTH).unbind()
    repeated = [torch.stack([each[:, h // 3] for h in range(6)], dim=1) for each in (key, value)]
    for mask in (OPEN, AttentionMask(causal=True)):
        close(part(query, key, value, mask, UNRELATED), part(query, *repeated, mask, UNRELATED))
        close(part.weights(query, key, mask, UNRELATED), part.weights(query, repeated[0], mask, UNRELATED))


@double
@EACH_ATTENTION
def test_weights_are_a_distribution_over_the_visible_keys(name):
    weigh: Callable[..., Tensor] = kernel(name).weights
    for seed in range(20):
        mask = random_mask(seed)
        weights, seen = weigh(states(QUERIES), states(KEYS), mask, UNRELATED), drawn(mask)
        assert not weights[~seen].any()
        close(weights.sum(dim=-1), seen.any(dim=-1).to(weights.dtype))
