"""Each kernel against loops over its formula, and the cheap orders of a computation against the plain one."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch_twin import close, shake

from clearhead.core.errors import ConfigError, ModelError
from clearhead.core.registry import Choice
from clearhead.model import CAUSAL, OPEN, AttentionMask
from clearhead.model.attention import ATTENTIONS, Kernel
from clearhead.model.attention.additive import score_each_pair
from clearhead.model.attention.random_features import orthogonal
from clearhead.model.position import UNRELATED, Relation

pytestmark = pytest.mark.usefixtures("double")

BATCH, HEADS, QUERIES, KEYS, WIDTH = 3, 2, 5, 7, 4
VALID = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0]]).bool()


def kernel(name: str, **options: object) -> Kernel:
    part = ATTENTIONS.build(Choice(kind=name, options=options), HEADS, WIDTH, 0.0)
    shake(part)
    return part.eval()


def states(queries: int = QUERIES, keys: int = KEYS, *, grad: bool = False) -> list[Tensor]:
    return [torch.randn(BATCH, HEADS, length, WIDTH, requires_grad=grad) for length in (queries, keys, keys)]


def each_score() -> list[list[int]]:
    return torch.cartesian_prod(*map(torch.arange, (BATCH, HEADS, QUERIES, KEYS))).tolist()


SCORES = {
    "dot": lambda part, h, q, k: q @ k / math.sqrt(WIDTH),
    "additive": lambda part, h, q, k: part.vector[h] @ (q + k).tanh(),
    "cosine": lambda part, h, q, k: part.scale[h] * (q @ k) / (q.norm() * k.norm()),
    "bilinear": lambda part, h, q, k: q @ part.matrix[h] @ k / math.sqrt(WIDTH),
}


@pytest.mark.parametrize("name", sorted(SCORES))
def test_scores_are_their_formula(name):
    part, (query, key, value) = kernel(name), states()
    scores = torch.empty(BATCH, HEADS, QUERIES, KEYS)
    for b, h, i, j in each_score():
        scores[b, h, i, j] = SCORES[name](part, h, query[b, h, i], key[b, h, j])
    weights = scores.masked_fill(~VALID[:, None, None], -math.inf).softmax(dim=-1)
    close(part.weights(query, key, AttentionMask(valid=VALID), UNRELATED), weights)
    close(part(query, key, value, AttentionMask(valid=VALID), UNRELATED), weights @ value)


@pytest.mark.parametrize(
    ("options", "scale"), [({"scale": 1.0}, 1.0), ({"exponent": 1.0}, 1 / WIDTH), ({"exponent": 0.0}, 1.0), ({}, 0.5)]
)
def test_dot_products_are_scaled_as_asked(options, scale):
    part, (query, key, _) = kernel("dot", **options), states()
    close(part.scores(query, key), scale * query @ key.mT)


def test_a_scale_and_an_exponent_are_refused_together():
    with pytest.raises(ConfigError, match="set one of the two"):
        kernel("dot", scale=1.0, exponent=0.5)


def test_projections_of_tokens_or_of_pairs_give_the_same_additive_scores():
    queries, keys = torch.randn(BATCH, QUERIES, 12), torch.randn(BATCH, KEYS, 12)
    to_query, to_key, part = torch.randn(WIDTH, 12), torch.randn(WIDTH, 12), kernel("additive")
    once = part.scores((queries @ to_query.T)[:, None], (keys @ to_key.T)[:, None].expand(-1, HEADS, -1, -1))
    close(once[:, 0], score_each_pair(queries, keys, to_query, to_key, part.vector[0]))


# --- linear cost ---


@pytest.mark.parametrize("name", ["linear", "random_features"])
@pytest.mark.parametrize("chunk", [1, 2, 64])
@pytest.mark.parametrize("causal", [True, False])
def test_sums_in_any_order_are_the_same_attention(name, chunk, causal):
    part, mask = kernel(name, chunk=chunk), AttentionMask(causal=causal, valid=VALID)
    query, key, value = states(grad=True)
    expected = part.weights(query, key, mask, UNRELATED) @ value  # the quadratic order
    found = part(query, key, value, mask, UNRELATED)
    close(found, expected)
    direction = torch.randn_like(found)
    for own, other in zip(
        *(torch.autograd.grad(each, (query, key, value), direction) for each in (found, expected)), strict=True
    ):
        close(own, other)


def test_linear_weights_are_products_of_features():
    part, (query, key, _) = kernel("linear"), states()
    products = torch.empty(BATCH, HEADS, QUERIES, KEYS)
    for b, h, i, j in each_score():
        left, right = (
            [x + 1 if x > 0 else math.exp(x) for x in each.tolist()] for each in (query[b, h, i], key[b, h, j])
        )
        products[b, h, i, j] = sum(x * y for x, y in zip(left, right, strict=True))
    close(part.weights(query, key, OPEN, UNRELATED), products / products.sum(dim=-1, keepdim=True))


def test_a_token_by_token_state_gives_causal_linear_attention():
    part, (query, key, value) = kernel("linear"), states(KEYS)
    numerator, denominator = torch.zeros(BATCH, HEADS, WIDTH, WIDTH), torch.zeros(BATCH, HEADS, WIDTH)
    for t in range(KEYS):
        left, right = F.elu(query[:, :, t]) + 1, F.elu(key[:, :, t]) + 1
        numerator = numerator + right[..., None] * value[:, :, t, None]
        denominator = denominator + right
        expected = (left[..., None, :] @ numerator)[..., 0, :] / (left * denominator).sum(dim=-1, keepdim=True)
        close(part(query, key, value, CAUSAL, UNRELATED)[:, :, t], expected)


def test_random_features_come_closer_to_the_softmax_with_their_number():
    query, key, _ = (0.7 * each for each in states())
    exact = kernel("dot").weights(query, key, OPEN, UNRELATED)
    errors = []
    for features in (16, 256, 4_096):
        part = ATTENTIONS.build(Choice(kind="random_features", options={"features": features}), HEADS, WIDTH, 0.0)
        errors.append((part.weights(query, key, OPEN, UNRELATED) - exact).abs().mean().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_random_directions_are_orthogonal_within_a_block():
    rows = F.normalize(orthogonal(10, 4), dim=1)
    for block in (rows[:4], rows[4:8], rows[8:]):
        close(block @ block.T, torch.eye(len(block)))


def test_low_rank_attends_to_sums_of_keys():
    part, (query, key, value) = kernel("low_rank", rank=3, length=9), states()
    found = part(query, key, value, AttentionMask(valid=VALID), UNRELATED)
    for b in range(BATCH):
        valid = VALID[b].nonzero()[:, 0]
        for h in range(HEADS):
            keys = sum(part.keys[:, n, None] * key[b, h, at] for n, at in enumerate(valid))  # (rank, d_head)
            values = sum(part.values[:, n, None] * value[b, h, at] for n, at in enumerate(valid))
            close(found[b, h], (query[b, h] @ keys.T / math.sqrt(WIDTH)).softmax(dim=-1) @ values)
    close(part.weights(query, key, AttentionMask(valid=VALID), UNRELATED) @ value, found)


def test_low_rank_refuses_what_it_cannot_hide_or_hold():
    part, (query, key, value) = kernel("low_rank", rank=3, length=6), states()
    with pytest.raises(ModelError, match="can hide nothing but padding"):
        part(query, key, value, CAUSAL, UNRELATED)
    with pytest.raises(ModelError, match=r"found 7; expected at most 6; set model\.attention\.length"):
        part(query, key, value, OPEN, UNRELATED)


@pytest.mark.parametrize("name", [name for name in ATTENTIONS.names() if not ATTENTIONS.get(name).biases])
def test_a_kernel_without_scores_of_pairs_refuses_a_bias(name):
    part, inputs = kernel(name), states()
    for mask, relation in (
        (OPEN, Relation(torch.zeros(1, HEADS, QUERIES, KEYS))),
        (AttentionMask.adding(torch.zeros(QUERIES, KEYS)), UNRELATED),
    ):
        with pytest.raises(ModelError, match="no score for each pair"):
            part(*inputs, mask, relation)


# --- windows ---


def rule(window: int, is_global: Tensor, queries: int) -> Tensor:
    """(batch, queries, keys), pair by pair."""
    keys = is_global.shape[1]
    allowed = torch.zeros(len(is_global), queries, keys, dtype=torch.bool)
    for b, i, j in torch.cartesian_prod(*map(torch.arange, allowed.shape)).tolist():
        slot = keys - queries + i
        allowed[b, i, j] = abs(slot - j) < window or bool(is_global[b, slot]) or bool(is_global[b, j])
    return allowed


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [1, 2, 3, 100])
@pytest.mark.parametrize("global_tokens", [0, 1, 3])
@pytest.mark.parametrize("queries", [1, 4, 7])
def test_a_window_is_masked_full_attention(causal, window, global_tokens, queries):
    part = kernel("local", window=window, global_tokens=global_tokens)
    query, key, value = states(queries, KEYS)
    relation = Relation(torch.randn(1, HEADS, queries, KEYS), torch.randn(1, queries, KEYS, WIDTH))
    is_global = VALID & (VALID.long().cumsum(dim=1) <= global_tokens)
    mask = AttentionMask(causal=causal, valid=VALID, added=torch.randn(queries, KEYS))
    full = mask & AttentionMask(allowed=rule(window, is_global, queries)[:, None])
    close(part(query, key, value, mask, relation), kernel("dot")(query, key, value, full, relation))
    close(part.weights(query, key, mask, relation), kernel("dot").weights(query, key, full, relation))


def test_a_plain_window_is_the_window_of_a_mask():
    query, key, value = states(KEYS)
    for mask in (OPEN, CAUSAL):
        expected = kernel("dot")(query, key, value, mask & AttentionMask(window=2), UNRELATED)
        close(kernel("local", window=2)(query, key, value, mask, UNRELATED), expected)


# --- tiles ---

TILED = {
    "open": OPEN,
    "causal": CAUSAL,
    "padded": AttentionMask(causal=True, valid=VALID),
    "window": AttentionMask(causal=True, window=2),
    "two-sided window": AttentionMask(window=3),
    "own": AttentionMask(own=False),
    "prefix": AttentionMask(causal=True, prefix=torch.arange(KEYS) < torch.tensor([3, 1, 0])[:, None]),
    "some": AttentionMask(
        allowed=torch.rand(BATCH, 1, QUERIES, KEYS, generator=torch.Generator().manual_seed(1)) < 0.5
    ),
}


@pytest.mark.parametrize("name", TILED)
@pytest.mark.parametrize("block", [1, 3, 64])
@pytest.mark.parametrize("biased", [None, (1, HEADS, QUERIES, KEYS), (BATCH, 1, 1, KEYS)])
def test_tiles_are_the_attention_of_torch_with_its_gradients(name, block, biased):
    query, key, value = states(grad=True)
    bias = None if biased is None else torch.randn(biased, requires_grad=True)
    inputs = [query, key, value, *([] if bias is None else [bias])]
    found = kernel("tiled", block=block)(query, key, value, TILED[name], Relation(bias))
    allowed = TILED[name].dense(QUERIES, KEYS, query.device)
    allowed = torch.ones(QUERIES, KEYS, dtype=torch.bool) if allowed is None else allowed
    sees = allowed.any(dim=-1, keepdim=True)
    scores = torch.zeros(()) if bias is None else bias
    attn_mask = scores.masked_fill(~allowed & sees, -math.inf).expand(BATCH, HEADS, QUERIES, KEYS)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask) * sees
    close(found, expected)
    direction = torch.randn_like(found)
    gradients = (torch.autograd.grad(each, inputs, direction, allow_unused=True) for each in (found, expected))
    for own, other in zip(*gradients, strict=True):
        close(own, other)


def test_tiles_in_bfloat16_are_near_the_exact_result():
    query, key, value = (each.to(torch.bfloat16) for each in states(33, 33))
    found = kernel("tiled", block=8)(query, key, value, CAUSAL, UNRELATED)
    assert found.dtype == torch.bfloat16
    expected = kernel("dot")(query.double(), key.double(), value.double(), CAUSAL, UNRELATED)
    torch.testing.assert_close(found.double(), expected, rtol=0.01, atol=0.01)


class Largest(TorchDispatchMode):
    """The most elements of a tensor made inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.elements = max(self.elements, made.numel())
        return made


LINEAR = [("tiled", {"block": 8}), ("linear", {}), ("random_features", {}), ("local", {"window": 8}), ("low_rank", {})]


@pytest.mark.parametrize(("name", "options"), LINEAR)
def test_no_tensor_grows_faster_than_the_length(name, options):
    largest = []
    for length in (256, 512):
        part = kernel(name, **options)
        inputs = [torch.randn(1, HEADS, length, WIDTH, requires_grad=True) for _ in range(3)]
        with Largest() as watched:
            part(*inputs, CAUSAL if part.any_mask else OPEN, UNRELATED).sum().backward()
        largest.append(watched.elements)
    assert largest[1] <= 2 * largest[0]
