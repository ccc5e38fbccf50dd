"""The number format is what was measured to be faster."""

import pytest
import torch

from clearhead.core import devices
from clearhead.core.devices import GAIN, bfloat16_gain, cast_matmul_seconds, matmul_seconds, pick_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(("gain", "chosen"), [(0.3, torch.float32), (1.0, torch.float32), (4.0, torch.bfloat16)])
def test_bfloat16_is_chosen_only_where_it_is_much_faster(monkeypatch, gain, chosen):
    seconds = {torch.float32: gain, torch.bfloat16: 1.0}
    monkeypatch.setattr(devices, "cast_matmul_seconds", lambda dtype, device, shape: seconds[dtype])
    assert bfloat16_gain(CPU) == gain
    assert pick_dtype("auto", CPU) == chosen
    assert (gain > GAIN) == (chosen == torch.bfloat16)


def test_what_a_recipe_says_is_not_measured(monkeypatch):
    monkeypatch.setattr(devices, "cast_matmul_seconds", None)
    assert pick_dtype("float32", CPU) == torch.float32
    assert pick_dtype("bfloat16", CPU) == torch.bfloat16
    assert pick_dtype("auto", torch.device("mps")) == torch.float32


def test_the_product_of_the_recipe_is_measured_on_one_thread(monkeypatch):
    seen = []

    def seconds(dtype, device, shape):
        seen.append((dtype, shape, torch.get_num_threads()))
        return 1.0

    monkeypatch.setattr(devices, "cast_matmul_seconds", seconds)
    before = torch.get_num_threads()
    pick_dtype("auto", CPU, (3, 5, 7))
    assert seen == [(torch.float32, (3, 5, 7), 1), (torch.bfloat16, (3, 5, 7), 1)]
    assert torch.get_num_threads() == before


def test_a_product_takes_time():
    assert 0 < matmul_seconds(torch.float32, 3, 5, 7) < 10
    assert 0 < cast_matmul_seconds(torch.bfloat16, CPU, (3, 5, 7)) < 10
