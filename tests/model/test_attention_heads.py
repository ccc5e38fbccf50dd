"""Heads that are masked give nothing, heads that are removed were masked; layouts hold the same matrices."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_twin import close, shake

from clearhead.core.errors import ConfigError, ModelError
from clearhead.core.registry import Choice
from clearhead.model import NO_CACHE, OPEN, Transformer
from clearhead.model.attention import PROJECTIONS, Dot, Fused, HeadSizes, SelfAttention
from clearhead.model.attention.heads import attentions, gated_heads, masked_heads, remove_heads
from clearhead.model.attention.layouts import (
    from_fused,
    from_heads,
    from_interleaved,
    to_fused,
    to_heads,
    to_interleaved,
)
from clearhead.model.forward_pass import Pass
from clearhead.model.position import POSITIONS, NoPosition

pytestmark = pytest.mark.usefixtures("double")
SOURCE, TARGET = torch.arange(1, 22).view(3, 7), torch.arange(22, 7, -1).view(3, 5)
OFF = {"encoder.blocks.0.attention": [1], "decoder.blocks.1.attention": [0, 3], "decoder.blocks.0.cross": [0, 1, 2]}


def four_heads(tiny, **changes: object) -> Transformer:
    model = tiny(heads=4, d_head=6, **changes)
    shake(model)
    return model


def lent(name: str) -> bool:
    """Whether blocks borrow the scheme from the stack, and so have no weights of their own for it."""
    return not isinstance(POSITIONS.build(Choice(kind=name), 12, 4, 6, 16).layer(causal=True), nn.Module)


@pytest.mark.parametrize("position", [each for each in POSITIONS.names() if lent(each)])
@pytest.mark.parametrize("bias", [True, False])
def test_removed_heads_are_masked_heads(tiny, position, bias):
    model = four_heads(tiny, position=position, bias=bias)
    whole = model(SOURCE, TARGET)
    with masked_heads(model, OFF):
        masked = model(SOURCE, TARGET)
    count = sum(each.numel() for each in model.parameters())
    remove_heads(model, OFF)
    close(model(SOURCE, TARGET), masked)
    assert not torch.allclose(whole, masked)
    removed = 6 * (4 * 6 * 12 + 3 * 6 * bias)  # six heads with their rows of Q, K, V and columns of O
    assert count - sum(each.numel() for each in model.parameters()) == removed


def test_heads_can_be_removed_twice(tiny):
    model = four_heads(tiny, position="alibi")
    with masked_heads(model, {"encoder.blocks.0.attention": [0, 2]}):
        expected = model(SOURCE, TARGET)
    remove_heads(model, {"encoder.blocks.0.attention": [0]})
    remove_heads(model, {"encoder.blocks.0.attention": [1]})  # it was the third
    close(model(SOURCE, TARGET), expected)


def test_grouped_heads_go_by_groups(tiny):
    model = four_heads(tiny, kv_heads=2)
    with pytest.raises(ModelError, match="would lose a part of a group; found 2 query heads"):
        remove_heads(model, {"encoder.blocks.0.attention": [1]})
    with masked_heads(model, {"encoder.blocks.0.attention": [2, 3]}):
        masked = model(SOURCE, TARGET)
    remove_heads(model, {"encoder.blocks.0.attention": [2, 3]})
    close(model(SOURCE, TARGET), masked)


def test_a_masked_head_is_one_whose_values_are_zero(tiny):
    model = four_heads(tiny)
    with masked_heads(model, {"encoder.blocks.0.attention": [2]}):
        masked = model(SOURCE, TARGET)
    attention = attentions(model)["encoder.blocks.0.attention"]
    attention.output.weight.data[:, 12:18] = 0
    close(model(SOURCE, TARGET), masked)


def test_the_gradient_of_a_gate_tells_what_its_head_contributes(tiny):
    model, path = four_heads(tiny), "decoder.blocks.0.attention"
    gate = torch.ones(4, requires_grad=True)
    with gated_heads(model, {path: gate}):
        open_gates = model(SOURCE, TARGET).sum()
    open_gates.backward()
    for head in range(4):
        nearly = torch.ones(4).index_fill(0, torch.tensor(head), 1 - 1e-6)
        with gated_heads(model, {path: nearly}):
            change = (open_gates - model(SOURCE, TARGET).sum()) / 1e-6
        assert gate.grad[head].item() == pytest.approx(change.item(), rel=1e-3, abs=1e-4)


MISTAKES = {
    "a path": ({"encoder.blocks.0.atention": [0]}, r"did you mean 'encoder\.blocks\.0\.attention'"),
    "a head": ({"encoder.blocks.0.attention": [4]}, r"found \[4\]; expected 0 to 3"),
    "all heads": ({"encoder.blocks.0.attention": range(4)}, "would lose all its heads"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_removed_is_named_and_nothing_is_changed(tiny, mistake):
    model, (off, message) = four_heads(tiny), MISTAKES[mistake]
    before = model(SOURCE, TARGET)
    with pytest.raises(ModelError, match=message):
        remove_heads(model, {"decoder.blocks.0.attention": [1], **off})
    close(model(SOURCE, TARGET), before, 0)


@pytest.mark.parametrize(
    "changes", [{"attention": "additive"}, {"position": "xl"}, {"projections": "separate"}], ids=str
)
def test_parts_with_weights_of_each_head_refuse(tiny, changes):
    with pytest.raises(ModelError, match="mask its heads instead"):
        remove_heads(four_heads(tiny, **changes), {"encoder.blocks.0.attention": [1]})


# --- projections and their layouts ---

GROUPED = HeadSizes(d_model=12, heads=6, kv_heads=2, d_head=4)
HIDDEN = torch.randn(3, 7, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def matrices(sizes: HeadSizes, *, bias: bool) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (torch.randn(rows) if bias else torch.randn(rows, 12) for rows in sizes.rows)
    return query, key, value


LAYOUTS = {
    "heads": (to_heads, lambda held, sizes: from_heads(held)),
    "fused": (lambda held, sizes: to_fused(held), from_fused),
    "interleaved": (to_interleaved, from_interleaved),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_every_layout_holds_the_same_matrices(layout, bias, kv_heads):
    there, back = LAYOUTS[layout]
    sizes = HeadSizes(d_model=12, heads=6, kv_heads=kv_heads, d_head=4)
    held = matrices(sizes, bias=bias)
    for found, expected in zip(back(there(held, sizes), sizes), held, strict=True):
        assert torch.equal(found, expected)


def test_rows_are_where_each_layout_says():
    query, key, value = held = matrices(GROUPED, bias=False)
    groups = to_interleaved(held, GROUPED).view(2, 5, 4, 12)  # three queries, a key and a value of each key/value head
    for group in range(2):
        for n in range(3):
            assert torch.equal(groups[group, n], query[4 * (3 * group + n) :][:4])
        assert torch.equal(groups[group, 3], key[4 * group :][:4])
        assert torch.equal(groups[group, 4], value[4 * group :][:4])
    assert torch.equal(to_heads(held, GROUPED)[0][5], query[20:])


def test_all_layouts_give_the_same_queries_keys_and_values():
    fused, separate = Fused(GROUPED, True), PROJECTIONS.build(Choice(kind="separate"), GROUPED, True)
    shake(fused)
    for name in ("weight", "bias"):
        parts = from_fused(getattr(fused, name).data, GROUPED)
        for linear, part in zip((separate.query, separate.key, separate.value), parts, strict=True):
            getattr(linear, name).data = part
    weights, biases = (to_heads(from_fused(getattr(fused, name), GROUPED), GROUPED) for name in ("weight", "bias"))
    by_head = [torch.einsum("bnm,hdm->bhnd", HIDDEN, w) + b[:, None] for w, b in zip(weights, biases, strict=True)]
    for found, other, expected in zip(fused.all(HIDDEN), separate.all(HIDDEN), by_head, strict=True):
        close(found, expected)
        close(other, expected)


def test_the_fused_layout_is_that_of_torch():
    theirs = nn.MultiheadAttention(12, 2)
    weights = from_fused(theirs.in_proj_weight, HeadSizes(d_model=12, heads=2, kv_heads=2, d_head=6))
    expected = F.linear(HIDDEN, theirs.in_proj_weight).chunk(3, dim=-1)
    for weight, states in zip(weights, expected, strict=True):
        close(HIDDEN @ weight.T, states)


def test_a_matrix_of_other_heads_is_refused():
    with pytest.raises(ModelError, match="found 39 rows; expected 40 for"):
        from_fused(torch.zeros(39, 12), GROUPED)


@pytest.mark.parametrize("name", PROJECTIONS.names())
def test_parts_of_projections_are_the_whole(name):
    sizes = HeadSizes(d_model=12, heads=2, kv_heads=2, d_head=6)
    part = PROJECTIONS.build(Choice(kind=name), sizes, True)
    shake(part)
    for found, expected in zip((part.queries(HIDDEN), *part.keys_values(HIDDEN)), part.all(HIDDEN), strict=True):
        assert found.shape == (3, 2, 7, 6)
        close(found, expected)


def test_shared_queries_and_keys_make_symmetric_scores():
    sizes = HeadSizes(d_model=12, heads=2, kv_heads=2, d_head=6)
    part = PROJECTIONS.build(Choice(kind="shared_qk", options={"normalise": False}), sizes, True)
    query, key, _ = part.all(HIDDEN)
    scores = Dot(2, 6, 0.0).scores(query, key)
    close(scores, scores.mT)


def test_normalised_keys_are_directions():
    sizes = HeadSizes(d_model=12, heads=2, kv_heads=2, d_head=6)
    part = PROJECTIONS.build(Choice(kind="shared_qk"), sizes, True)
    query, key, _ = part.all(HIDDEN)
    torch.testing.assert_close(key.norm(dim=-1), torch.full((3, 2, 7), 6**0.5), rtol=1e-4, atol=0)
    close(F.normalize(query, dim=-1), F.normalize(key, dim=-1))


def test_identity_attention_mixes_the_stream_itself():
    sizes = HeadSizes(d_model=12, heads=2, kv_heads=2, d_head=6)
    part = PROJECTIONS.build(Choice(kind="identity"), sizes, True)
    attention = SelfAttention(part, Dot(2, 6, 0.0), NoPosition(12, 2, 6, 7), bias=True)
    heads = HIDDEN.unflatten(-1, (2, 6))
    expected = torch.empty_like(heads)
    for h in range(2):
        weights = (heads[:, :, h] @ heads[:, :, h].mT / 6**0.5).softmax(dim=-1)
        expected[:, :, h] = weights @ heads[:, :, h]
    close(attention(HIDDEN, Pass(torch.arange(7)[None], OPEN), NO_CACHE), attention.output(expected.flatten(2)))


@pytest.mark.parametrize("name", ["shared_qk", "identity"])
def test_projections_that_need_equal_heads_refuse_others(tiny, name):
    with pytest.raises(ConfigError, match="leave kv_heads out"):
        PROJECTIONS.build(Choice(kind=name), GROUPED, True)
    with pytest.raises(ValueError, match="leave kv_heads out"):
        tiny(projections=name, kv_heads=1)


def test_biases_of_queries_keys_and_values_are_chosen_by_themselves(tiny):
    for bias, qkv_bias, expected in ((True, None, True), (True, False, False), (False, True, True)):
        attention = attentions(tiny(bias=bias, qkv_bias=qkv_bias))["decoder.blocks.0.cross"]
        assert (attention.projections.bias is not None) == expected
        assert (attention.output.bias is not None) == bias


def test_every_attention_of_a_model_is_found(tiny):
    assert len(attentions(tiny())) == 2 + 2 * 2
