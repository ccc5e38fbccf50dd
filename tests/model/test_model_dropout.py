"""Dropout: the right rate, the right expectation, nothing at inference, the same again with the same seed."""

import pytest
import torch
import torch.nn.functional as F

from clearhead.model.dropout import Dropout, keep_mask

EACH_RATE = pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
MANY = 1 << 18


@EACH_RATE
def test_the_rate_is_the_one_asked_for(rate):
    dropped = (keep_mask(torch.ones(MANY), rate) == 0).double().mean().item()
    assert abs(dropped - rate) < 3 * (rate * (1 - rate) / MANY) ** 0.5


@EACH_RATE
def test_the_expectation_is_the_input(rate):
    mean = Dropout(rate)(torch.full((MANY,), 2.0, dtype=torch.float64)).mean().item()
    assert abs(mean - 2.0) < 3 * 2.0 * (rate / (1 - rate) / MANY) ** 0.5


@EACH_RATE
def test_each_element_is_kept_and_scaled_or_zero(rate):
    kept = keep_mask(torch.ones(1_001, dtype=torch.float64), rate)
    nonzero = kept[kept != 0]
    torch.testing.assert_close(nonzero, torch.full_like(nonzero, 1 / (1 - rate)), rtol=2 / 65536 / (1 - rate), atol=0)


def test_neighbouring_elements_fall_independently():
    kept = (keep_mask(torch.ones(MANY), 0.5) != 0).double()
    for distance in (1, 2, 3, 4):  # four elements come from one draw
        agree = (kept[distance:] == kept[:-distance]).double().mean().item()
        assert abs(agree - 0.5) < 4 * (0.25 / MANY) ** 0.5


@pytest.mark.parametrize("rate", [0.0, 1e-7, 1 - 1e-7])
@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_the_ends_of_the_scale_stay_finite(rate, size):
    assert Dropout(rate)(torch.ones(size)).isfinite().all()


def test_the_gradient_passes_where_the_value_passed():
    hidden = torch.ones(1_000, requires_grad=True)
    dropped = Dropout(0.3)(hidden)
    dropped.sum().backward()
    assert torch.equal(hidden.grad, dropped.detach())


def test_nothing_is_dropped_at_inference():
    hidden = torch.randn(3, 7)
    assert Dropout(0.5).eval()(hidden) is hidden
    assert Dropout(0.0)(hidden) is hidden


def test_a_model_with_dropout_is_at_inference_the_model_without(tiny):
    everywhere = {"dropout": 0.4, "attention_dropout": 0.4, "feedforward_dropout": 0.4}
    dropping, plain = tiny(**everywhere), tiny()
    plain.load_state_dict(dropping.state_dict())
    source, target = torch.randint(23, (3, 7)), torch.randint(23, (3, 5))
    assert torch.equal(dropping(source, target), plain(source, target))


@pytest.mark.parametrize("site", ["dropout", "attention_dropout", "feedforward_dropout"])
def test_each_rate_acts_in_training_and_repeats_with_its_seed(tiny, site):
    model = tiny(**{site: 0.4})
    source, target = torch.randint(23, (3, 7)), torch.randint(23, (3, 5))
    still = model(source, target)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(model.train()(source, target))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert F.mse_loss(runs[0], still) > 1e-4
