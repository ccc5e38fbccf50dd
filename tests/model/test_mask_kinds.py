"""Prefix, diagonal, additive and two-stream masks: what is seen, and what never leaks."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_twin import close, shake

from clearhead.model import CAUSAL, NO_CACHE, OPEN, AttentionMask
from clearhead.model.attention import Dot
from clearhead.model.position import UNRELATED, Relation
from clearhead.model.two_streams import two_streams

pytestmark = pytest.mark.usefixtures("double")
BATCH, HEADS, LENGTH, WIDTH = 3, 2, 7, 4
KERNEL = Dot(HEADS, WIDTH, 0.0)


def states() -> list[Tensor]:
    return list(torch.randn(3, BATCH, HEADS, LENGTH, WIDTH).unbind())


def test_a_token_that_may_not_see_itself_sees_the_others():
    query, key, value = states()
    found = KERNEL(query, key, value, AttentionMask(own=False), UNRELATED)
    for i in range(LENGTH):
        rest = [j for j in range(LENGTH) if j != i]
        expected = F.scaled_dot_product_attention(query[:, :, i : i + 1], key[:, :, rest], value[:, :, rest])
        close(found[:, :, i], expected[:, :, 0])


def test_a_token_with_no_other_to_see_gets_zeros():
    query, key, value = (each.requires_grad_() for each in states())
    found = KERNEL(query, key, value, CAUSAL & AttentionMask(own=False), UNRELATED)
    assert not found[:, :, 0].any()
    found.sum().backward()
    assert query.grad.isfinite().all()


def test_a_prefix_is_read_both_ways_and_the_rest_causally(tiny):
    model, lengths = tiny(encoder_layers=0), torch.tensor([4, 1, 0])
    tokens, prefix = torch.randint(1, 23, (BATCH, LENGTH)), torch.arange(LENGTH) < lengths[:, None]
    mask = AttentionMask(causal=True, prefix=prefix)
    before = model.decode(tokens, mask=mask)
    for row, length in enumerate(lengths.tolist()):
        for at in range(LENGTH):
            other = tokens.clone()
            other[row, at] = other[row, at] % 22 + 1
            moved = (model.decode(other, mask=mask)[row] - before[row]).abs().amax(dim=-1) > 1e-12
            assert moved.tolist() == [slot >= at or at < length for slot in range(LENGTH)]


def test_a_prefix_model_is_an_encoder_and_a_decoder_in_one_mask():
    """The square of the prefix is open, the rows behind it see the prefix and their past."""
    drawn = AttentionMask(causal=True, prefix=torch.arange(LENGTH)[None] < 3).dense(LENGTH, LENGTH, torch.device("cpu"))
    expected = torch.ones(LENGTH, LENGTH).tril() > 0
    expected[:3, :3] = True
    assert torch.equal(drawn[0, 0], expected)


@pytest.mark.parametrize("hidden", [-torch.inf, torch.finfo(torch.float64).min])
@pytest.mark.parametrize("biased", [True, False])
def test_an_additive_mask_is_added_to_the_scores(hidden, biased):
    query, key, value = states()
    scores = torch.randn(BATCH, 1, LENGTH, LENGTH).masked_fill(torch.rand(LENGTH, LENGTH) < 0.3, hidden)
    scores[:, :, 2] = hidden
    relation = Relation(torch.randn(1, HEADS, LENGTH, LENGTH)) if biased else UNRELATED
    found = KERNEL(query, key, value, AttentionMask.adding(scores), relation)
    expected = F.scaled_dot_product_attention(query, key, value, scores + (relation.bias if biased else 0))
    close(found[:, :, [0, 1, 3, 4, 5, 6]], expected[:, :, [0, 1, 3, 4, 5, 6]])
    assert not found[:, :, 2].any()


def test_additive_masks_compose_by_their_sum():
    query, key, value = states()
    left, right = torch.randn(2, LENGTH, LENGTH).unbind()
    both = AttentionMask.adding(left) & AttentionMask.adding(right) & CAUSAL
    expected = KERNEL(query, key, value, CAUSAL, Relation((left + right).expand(1, HEADS, -1, -1)))
    close(KERNEL(query, key, value, both, UNRELATED), expected)


# --- what leaks ---


def leak(run: Callable[[Tensor], Tensor]) -> Tensor:
    """Whether the output at a place depends on the content at another: (output, input) bool."""
    jacobian = torch.autograd.functional.jacobian(run, torch.randn(5, 12))  # (output, d_model, input, d_model)
    return jacobian.abs().amax(dim=(1, 3)) > 0


@pytest.mark.parametrize("depth", [1, 2])
def test_queries_from_outside_leak_past_the_diagonal_from_the_second_layer_on(tiny, depth):
    blocks = tiny(encoder_layers=depth, decoder_layers=0).encoder.blocks
    outside, mask = torch.randn(1, 5, 12), AttentionMask(own=False)

    def run(hidden: Tensor) -> Tensor:
        for attention in (block.attention for block in blocks):  # no residuals: they carry each token to its place
            query, pair = attention.projections.queries(outside), attention.projections.keys_values(hidden[None])
            hidden = attention.merge(attention.kernel(query, *pair, mask, UNRELATED))[0]
        return hidden

    seen = leak(run)
    assert torch.equal(seen, ~torch.eye(5, dtype=torch.bool)) if depth == 1 else seen.all()


@pytest.mark.parametrize("layers", [1, 2])
def test_the_query_stream_never_sees_its_own_token(tiny, layers):
    model, order = tiny(encoder_layers=layers, decoder_layers=0), torch.tensor([[2, 0, 4, 1, 3]])
    shake(model)
    places, empty = torch.arange(5)[None].repeat(1, 2), torch.randn(5, 12)

    def run(content: Tensor) -> Tensor:
        hidden = torch.cat([content, empty])[None]
        return model.encoder.body(hidden, places, two_streams(order), None, NO_CACHE)[0, 5:]

    assert torch.equal(leak(run), order[0][None, :] < order[0][:, None])


def test_the_content_stream_is_the_model_without_a_second_stream(tiny):
    model, order = tiny(encoder_layers=2, decoder_layers=0), torch.tensor([[2, 0, 4, 1, 3]])
    content, empty, places = torch.randn(1, 5, 12), torch.randn(1, 5, 12), torch.arange(5)[None]
    seen = AttentionMask(allowed=(order[:, None, :] <= order[:, :, None])[:, None])
    both = model.encoder.body(torch.cat([content, empty], 1), places.repeat(1, 2), two_streams(order), None, NO_CACHE)
    close(both[:, :5], model.encoder.body(content, places, seen, None, NO_CACHE))
    assert OPEN.dense(5, 5, torch.device("cpu")) is None
