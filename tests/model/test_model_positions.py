"""Position schemes against their formulas, and what each promises about length and distance."""

import cmath
import math

import pytest
import torch
from torch import Tensor
from torch_twin import close

from clearhead.core.errors import ConfigError, ModelError
from clearhead.core.registry import Choice
from clearhead.generate import SearchConfig, search
from clearhead.model import CAUSAL, AttentionMask
from clearhead.model.position import POSITIONS, Rotary, Sinusoidal
from clearhead.model.position.sinusoidal import sinusoidal_table

EACH_POSITION = pytest.mark.parametrize("name", POSITIONS.names())
double = pytest.mark.usefixtures("double")


@double
@pytest.mark.parametrize("width", [1, 2, 7, 12])
def test_the_sinusoidal_table_is_its_formula(width):
    expected = torch.empty(40, width)
    for t in range(40):
        for feature in range(width):
            angle = t / 10_000 ** (2 * (feature // 2) / width)
            expected[t, feature] = math.cos(angle) if feature % 2 else math.sin(angle)
    close(sinusoidal_table(40, width), expected, 1e-12)


@double
@pytest.mark.parametrize("shift", [1, 5, 30])
def test_a_shift_of_the_sinusoidal_table_is_one_linear_map(shift):
    table = sinusoidal_table(64, 12)
    turns = [shift / 10_000 ** (2 * i / 12) for i in range(6)]
    blocks = [torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]) for a in turns]
    close(table[:-shift] @ torch.block_diag(*blocks).T, table[shift:], 1e-12)


def test_an_odd_width_takes_a_sinusoidal_table(tiny):
    model = tiny(d_model=13, d_head=6, position="sinusoidal")
    assert model(torch.tensor([[1, 2]]), torch.tensor([[3]])).shape == (1, 1, 13)


@double
def test_the_sinusoidal_table_grows_with_the_text():
    short, long = Sinusoidal(12, 2, 6, 4), Sinusoidal(12, 2, 6, 50)
    hidden, positions = torch.randn(1, 31, 12), torch.arange(31)[None]
    close(short.add(hidden, positions), long.add(hidden, positions), 1e-12)
    assert len(short.state_dict()) == 0


def test_a_table_that_grew_in_a_search_can_be_trained_with(tiny):
    model = tiny(length=3, position="sinusoidal")
    search(model, [[5, 6, 7, 8, 9]], SearchConfig(length_extra=4), bos=1, eos=2)
    model.train()(torch.randint(23, (1, 5)), torch.randint(23, (1, 5))).sum().backward()
    assert model.output.grad is not None


def test_the_learned_table_refuses_what_is_beyond_its_end_in_one_line(tiny):
    model = tiny(position="learned", length=6)
    model.encode(torch.ones(1, 6, dtype=torch.long))
    with pytest.raises(ModelError, match=r"found 7 tokens; expected at most 6 tokens; .*model\.length") as refusal:
        model.encode(torch.ones(1, 7, dtype=torch.long))
    assert "\n" not in str(refusal.value)


@EACH_POSITION
def test_a_scheme_without_a_limit_reads_beyond_the_planned_length(tiny, name):
    model = tiny(position=name, length=5)
    tokens = torch.randint(1, 23, (2, 40))
    limit = model.longest_target
    if limit is None:
        assert model.encode(tokens).hidden.isfinite().all()
    else:
        assert limit == 5
        with pytest.raises(ModelError):
            model.encode(tokens)


def turned(rope: Rotary, states: Tensor, positions: Tensor) -> Tensor:
    return rope.rotate(states, rope.turns(positions, states.dtype))


@double
def test_rope_turns_pairs_of_features_as_complex_numbers():
    rope, states = Rotary(12, 2, 6, 16), torch.randn(2, 2, 5, 6)
    positions = torch.tensor([[0, 1, 2, 3, 4], [7, 0, 3, 11, 900]])
    expected = torch.empty_like(states)
    for b in range(2):
        for t in range(5):
            for i in range(3):
                turn = cmath.exp(1j * positions[b, t].item() * 10_000 ** (-2 * i / 6))
                for h in range(2):
                    pair = complex(states[b, h, t, i], states[b, h, t, i + 3]) * turn
                    expected[b, h, t, i], expected[b, h, t, i + 3] = pair.real, pair.imag
    close(turned(rope, states, positions), expected)


@double
@pytest.mark.parametrize("shift", [1, 64, 1_000])
def test_rope_scores_depend_on_distance_alone(shift):
    rope = Rotary(12, 2, 6, 16)
    query, key = torch.randn(2, 3, 2, 7, 6).unbind()
    here, there = torch.arange(7)[None], torch.arange(7)[None] + shift
    scores = [turned(rope, query, at) @ turned(rope, key, at).mT for at in (here, there)]
    close(*scores)


@double
def test_a_rope_model_does_not_change_when_all_positions_move(tiny):
    model = tiny(encoder_layers=0, position="rope")
    tokens, here = torch.randint(1, 23, (3, 7)), torch.arange(7)[None]
    close(model.decode(tokens, positions=here), model.decode(tokens, positions=here + 100))


def test_rope_keeps_its_angles_when_the_model_is_in_bfloat16():
    exact, rounded = Rotary(16, 2, 8, 16), Rotary(16, 2, 8, 16).to(torch.bfloat16)
    states, positions = torch.randn(1, 2, 5, 8), torch.tensor([[300, 301, 302, 303, 5_000]])
    found = turned(rounded, states.to(torch.bfloat16), positions).float()
    torch.testing.assert_close(found, turned(exact, states, positions), rtol=0.0, atol=0.05)


def test_rope_refuses_an_odd_head_and_a_base_that_is_no_length(tiny):
    with pytest.raises(ValueError, match=r"pairs of features; found d_head 3; set model\.d_head to an even number"):
        tiny(d_head=3, position="rope")
    with pytest.raises(ConfigError, match="expected a positive number"):
        POSITIONS.build(Choice(kind="rope", options={"base": 0.0}), 12, 2, 6, 16)


@double
@EACH_POSITION
def test_left_padding_is_inert(tiny, name):
    model = tiny(encoder_layers=0, position=name)
    tokens = torch.randint(1, 23, (1, 5))
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), tokens], dim=1)
    valid = padded > 0
    positions = torch.tensor([[9, 4, 0, 0, 1, 2, 3, 4]])  # those of padding do not matter
    expected = model.decode(tokens)
    close(model.decode(padded, valid=valid, positions=positions)[:, 3:], expected)
    close(model.decode(padded, valid=valid)[:, 3:], expected)


@double
@EACH_POSITION
def test_packed_sentences_are_as_if_alone(tiny, name):
    model = tiny(encoder_layers=0, position=name)
    first, second = torch.randint(1, 23, (3, 4)), torch.randint(1, 23, (3, 3))
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1]]).expand(3, -1)
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2]])
    packed = model.decode(
        torch.cat([first, second], dim=1), mask=CAUSAL & AttentionMask(segments=segments), positions=positions
    )
    close(packed, torch.cat([model.decode(first), model.decode(second)], dim=1))


@double
@EACH_POSITION
def test_only_a_scheme_that_looks_at_positions_tells_order(tiny, name):
    model = tiny(decoder_layers=0, position=name)
    tokens = torch.randperm(22)[None, :7] + 1
    order = torch.tensor([3, 1, 6, 0, 5, 2, 4])
    before, after = model.encode(tokens).hidden, model.encode(tokens[:, order]).hidden
    moved = (after - before[:, order]).abs().max() > 1e-6
    assert bool(moved) == (name != "none")
