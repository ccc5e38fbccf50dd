"""Random choices against loops over the cumulated probabilities."""

import pytest
import torch

from clearhead.core.errors import ConfigError
from clearhead.data.synthetic.drawing import at_least, at_most, cumulated, distinct, entropy, pick, uniform, whole

TABLE = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.2, 0.2]]).double()


def by_loop(row, uniform):
    total = 0.0
    for choice, probability in enumerate(TABLE[row].tolist()):
        total += probability
        if uniform < total:
            return choice
    return None


def test_a_choice_is_the_first_whose_cumulated_probability_exceeds_the_number():
    rows = torch.arange(3).repeat_interleave(200)
    uniforms = uniform(600, 1, torch.Generator().manual_seed(1))[:, 0]
    found = pick(cumulated(TABLE), 5, rows, uniforms)
    assert found.tolist() == [by_loop(*each) for each in zip(rows.tolist(), uniforms.tolist(), strict=True)]


def test_the_impossible_is_not_chosen_at_the_edges():
    edges = torch.tensor([0.0, 2**-32, 0.25, 0.5, 1 - 2**-32], dtype=torch.float64)
    table = TABLE[:2].repeat(2_000, 1)  # far down, where sums with the number of the row are coarse
    for row in (0, 1, 3_998, 3_999):
        found = pick(cumulated(table), 5, torch.full((5,), row), edges)
        assert bool((table[row, found] > 0).all())


def test_uniform_numbers_lie_on_a_grid_below_one():
    numbers = uniform(1_000, 9, torch.Generator().manual_seed(1))
    assert numbers.dtype == torch.float64
    assert torch.equal((numbers * 2**32).floor() / 2**32, numbers)
    assert 0 <= float(numbers.min()) < 0.001
    assert 0.999 < float(numbers.max()) < 1


def test_whole_numbers_reach_both_ends():
    numbers = whole(torch.tensor([0.0, 0.2499, 0.25, 1 - 2**-32], dtype=torch.float64), 4)
    assert numbers.tolist() == [0, 0, 1, 3]


def test_distinct_numbers_differ_and_are_all_equally_likely():
    found = distinct(uniform(9_000, 5, torch.Generator().manual_seed(1)), 3)
    assert all(len(set(row)) == 3 for row in found.tolist())
    orders = torch.unique(found, dim=0, return_counts=True)[1]
    assert len(orders) == 60
    assert bool(((orders - 150).abs() < 5 * 150**0.5).all())


def test_entropy_of_a_certain_choice_is_zero():
    torch.testing.assert_close(entropy(TABLE)[1], torch.zeros(()).double())
    torch.testing.assert_close(entropy(TABLE), torch.distributions.Categorical(TABLE).entropy())


def test_options_out_of_range_are_named():
    at_least(1, length=1, distance=None)
    at_most(3, "the length", distance=None)
    with pytest.raises(ConfigError, match="option length is too small; found 0; expected at least 1"):
        at_least(1, length=0)
    with pytest.raises(ConfigError, match="option distance is too large; found 4; expected at most 3, the length"):
        at_most(3, "the length", distance=4)
