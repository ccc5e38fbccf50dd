"""Schemes that speak about pairs, and stretched rotations, against loops over their formulas."""

import math

import pytest
import torch
from torch import Tensor
from torch_twin import close, shake

from clearhead.core.errors import ConfigError
from clearhead.core.registry import Choice
from clearhead.model import CAUSAL, NO_CACHE
from clearhead.model.attention import Dot, Fused, HeadSizes, SelfAttention
from clearhead.model.forward_pass import Pass
from clearhead.model.position import POSITIONS, Position, Relation, Rotary
from clearhead.model.position.alibi import alibi_slopes
from clearhead.model.position.base import LayerPosition
from clearhead.model.position.scaling import SCALINGS
from clearhead.model.position.sinusoidal import sinusoidal_table
from clearhead.model.position.t5 import bucket

pytestmark = pytest.mark.usefixtures("double")

BATCH, HEADS, LENGTH, WIDTH = 3, 2, 7, 6
AT = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 2, 3, 4], [9, 2, 30, 4, 4, 70, 1]])  # (batch, length)


def scheme(name: str, heads: int = HEADS, **options: object) -> Position:
    return POSITIONS.build(Choice(kind=name, options=options), 12, heads, WIDTH, 16)


RELATIVE = [each for each in POSITIONS.names() if POSITIONS.get(each).biases and scheme(each).limit is None]
EACH_RELATION = pytest.mark.parametrize("name", RELATIVE)


def states(heads: int = HEADS) -> tuple[Tensor, Tensor]:
    query, key = torch.randn(2, BATCH, heads, LENGTH, WIDTH).unbind()
    return query, key


def relation(layer: LayerPosition, query: Tensor, key: Tensor, here: Tensor, there: Tensor) -> Relation:
    """All that a scheme says about pairs: from positions alone, and in view of queries and keys."""
    known, seen = layer.bias(here, there), layer.relate(query, key, here, there)
    biases = [each for each in (known, seen.bias) if each is not None]
    return Relation(sum(biases) if biases else None, seen.values)


def turned(rope: Position, states: Tensor, at: Tensor) -> Tensor:
    return rope.rotate(states, rope.turns(at, states.dtype))


def each_pair() -> list[list[int]]:
    return torch.cartesian_prod(*map(torch.arange, (BATCH, HEADS, LENGTH, LENGTH))).tolist()


def test_shaw_adds_a_vector_of_the_clipped_distance_to_keys_and_values():
    layer, (query, key) = scheme("shaw", clip=3).layer(causal=True), states()
    sizes = HeadSizes(d_model=12, heads=HEADS, kv_heads=HEADS, d_head=WIDTH)
    attention = SelfAttention(Fused(sizes, True), Dot(HEADS, WIDTH, 0.0), layer, bias=True)
    shake(attention)
    hidden = torch.randn(BATCH, LENGTH, 12)
    query, key, value = attention.projections.all(hidden)
    mixed = torch.zeros(BATCH, HEADS, LENGTH, WIDTH)
    for b, h, i, _ in each_pair():
        rows = [max(-3, min(3, int(AT[b, j] - AT[b, i]))) + 3 for j in range(i + 1)]
        scores = [query[b, h, i] @ (key[b, h, j] + layer.keys[row]) / math.sqrt(WIDTH) for j, row in enumerate(rows)]
        weights = torch.stack(scores).softmax(dim=0)
        mixed[b, h, i] = sum(w * (value[b, h, j] + layer.values[rows[j]]) for j, w in enumerate(weights))
    close(attention(hidden, Pass(AT, CAUSAL), NO_CACHE), attention.merge(mixed))


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_transformer_xl_scores_have_four_terms(kv_heads):
    layer, (query, key) = scheme("xl").layer(causal=True), states()
    shake(layer)
    key = key[:, :kv_heads]
    found = Dot(HEADS, WIDTH, 0.0).scores(query, key.repeat_interleave(HEADS // kv_heads, dim=1))
    found = found + layer.relate(query, key, AT, AT).bias
    for b, h, i, j in each_pair():
        distance, waves = int(AT[b, i] - AT[b, j]), torch.empty(12)
        for feature in range(6):
            angle = distance / 10_000 ** (2 * feature / 12)
            waves[feature], waves[feature + 6] = math.sin(angle), math.cos(angle)
        seen = (layer.project.weight @ waves).view(HEADS, WIDTH)[h]
        q, k, u, v = query[b, h, i], key[b, h * kv_heads // HEADS, j], layer.content[h], layer.distance[h]
        close(found[b, h, i, j], (q @ k + q @ seen + u @ k + v @ seen) / math.sqrt(WIDTH))


def test_alibi_is_a_slope_times_the_distance():
    bias = scheme("alibi").bias(AT, AT)
    for b, h, i, j in each_pair():
        assert bias[b, h, i, j] == -(2.0 ** (-8 * (h + 1) / HEADS)) * abs(AT[b, i] - AT[b, j])


def test_slopes_of_any_number_of_heads():
    assert alibi_slopes(8) == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(1) == [2.0**-8]
    assert alibi_slopes(3) == [2.0**-4, 2.0**-8, 2.0**-2]
    for heads in range(1, 40):
        assert len(set(alibi_slopes(heads))) == heads


def test_a_t5_bias_is_the_row_of_its_bucket():
    position = scheme("t5", buckets=8, distance=20)
    both, past = (position.layer(causal=causal).bias(AT, AT) for causal in (False, True))
    for b, h, i, j in each_pair():
        distance = int(AT[b, i] - AT[b, j])
        row = int(bucket(torch.tensor(abs(distance)), 4, 20)) + 4 * (distance < 0)
        assert both[b, h, i, j] == position.table[row, h]
        assert past[b, h, i, j] == position.table[int(bucket(torch.tensor(max(distance, 0)), 8, 20)), h]


def test_buckets_are_single_distances_and_then_grow_as_the_logarithm():
    assert bucket(torch.arange(18), 8, 32).tolist() == [0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6]
    rows = bucket(torch.arange(300), 16, 128)
    assert (rows.diff() >= 0).all()
    assert rows.unique().tolist() == list(range(16))
    assert (rows[128:] == 15).all()


def test_buckets_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="found distance 16; expected more than 16"):
        scheme("t5", buckets=32, distance=16)


@EACH_RELATION
@pytest.mark.parametrize("shift", [1, 1_000])
def test_a_relation_depends_on_distance_alone(name, shift):
    layer, (query, key) = scheme(name).layer(causal=False), states()
    here, there = (relation(layer, query, key, at, at) for at in (AT, AT + shift))
    close(here.bias, there.bias)
    assert (here.values is None) == (there.values is None)
    if here.values is not None:
        close(here.values, there.values)


@EACH_RELATION
def test_a_relation_of_some_queries_is_a_part_of_that_of_all(name):
    layer, (query, key) = scheme(name).layer(causal=True), states()
    every, last = (relation(layer, query[:, :, start:], key, AT[:, start:], AT) for start in (0, 4))
    close(last.bias, every.bias[:, :, 4:])
    if every.values is not None:
        close(last.values, every.values[:, 4:])


@EACH_RELATION
def test_one_row_of_positions_serves_a_batch(name):
    layer, (query, key) = scheme(name).layer(causal=True), states()
    one, each = (relation(layer, query, key, at, at).bias for at in (AT[:1], AT[:1].expand(BATCH, -1)))
    close(one.expand(BATCH, -1, -1, -1), each)


def test_a_relation_of_values_is_added_to_the_values_of_pairs():
    query, key = states()
    value, kernel = torch.randn(BATCH, HEADS, LENGTH, WIDTH), Dot(HEADS, WIDTH, 0.0)
    for rows in (1, BATCH):
        values = torch.randn(rows, LENGTH, LENGTH, WIDTH)
        weights, found = (
            kernel.weights(query, key, CAUSAL, Relation()),
            kernel(query, key, value, CAUSAL, Relation(values=values)),
        )
        for b, h, i, _ in each_pair():
            close(
                found[b, h, i],
                sum(weights[b, h, i, j] * (value[b, h, j] + values[b % rows, i, j]) for j in range(LENGTH)),
            )


# --- sinusoidal, learned and rotary options ---


@pytest.mark.parametrize("width", [1, 7, 12])
def test_halves_are_the_pairs_in_another_order(width):
    pairs, halves = (sinusoidal_table(40, width, 100.0, layout) for layout in ("pairs", "halves"))
    order = [*range(0, width, 2), *range(1, width, 2)]
    assert torch.equal(halves, pairs[:, order])


def test_a_learned_table_begins_at_its_offset():
    position = scheme("learned", offset=2)
    assert position.table.shape == (18, 12)
    assert position.limit == 16
    embedded = torch.randn(1, 5, 12)
    close(position.add(embedded, torch.arange(5)[None]), embedded + position.table[2:7])


def test_pairs_are_halves_in_another_order():
    halves, pairs = (Rotary(12, 2, WIDTH, 16, layout=layout) for layout in ("halves", "pairs"))
    order = torch.tensor([0, 3, 1, 4, 2, 5])  # feature i of a pair stands beside feature i + width / 2
    query, _ = states()
    close(turned(pairs, query[..., order], AT), turned(halves, query, AT)[..., order], 0)


def test_a_fraction_leaves_the_rest_as_it_is():
    rope, small, (query, _) = Rotary(12, 2, WIDTH, 16, fraction=0.7), Rotary(12, 2, 4, 16), states()
    found = turned(rope, query, AT)
    assert torch.equal(found[..., 4:], query[..., 4:])
    close(found[..., :4], turned(small, query[..., :4], AT))
    with pytest.raises(ConfigError, match=r"found d_head 6, fraction 0\.5"):
        scheme("rope", fraction=0.5)


SCALED = {
    "linear": {"factor": 4},
    "ntk": {"factor": 4},
    "yarn": {"factor": 4, "original": 64},
    "llama3": {"original": 64},
}
FREQUENCIES = 10_000 ** -(torch.arange(0, 32, 2, dtype=torch.float64) / 32)


@pytest.mark.parametrize("name", SCALINGS.names())
def test_a_scaling_slows_turns_and_the_slow_ones_more(name):
    slower = SCALINGS.build(Choice(kind=name, options=SCALED.get(name, {})), 10_000.0)(FREQUENCIES) / FREQUENCIES
    assert (slower <= 1 + 1e-12).all()
    assert (slower.diff() <= 1e-12).all()
    assert slower[-1] == pytest.approx({"none": 1.0, "llama3": 1 / 8}.get(name, 1 / 4))
    assert slower[0] == pytest.approx(1 / 4 if name == "linear" else 1.0)


def test_positions_divided_by_a_factor_are_frequencies_divided_by_it():
    scaled, plain = scheme("rope", scaling={"kind": "linear", "factor": 3}), scheme("rope")
    query, _ = states()
    close(turned(scaled, query, 3 * AT), turned(plain, query, AT))


def test_ntk_is_a_larger_base():
    scaled = SCALINGS.build(Choice(kind="ntk", options={"factor": 4}), 10_000.0)(FREQUENCIES)
    base = 10_000 * 4 ** (32 / 30)
    close(scaled, base ** -(torch.arange(0, 32, 2, dtype=torch.float64) / 32), 1e-12)
