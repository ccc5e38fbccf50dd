"""What a run chose by itself is told in its first lines."""

import pytest
import torch

from clearhead.core.allocator import allocator
from clearhead.core.errors import CheckpointError
from clearhead.core.processes import World
from clearhead.core.registry import Choice
from clearhead.model import ModelConfig
from clearhead.model.fused.library import library
from clearhead.train.machine import Machine, automatic, run_dtype, shape_of
from clearhead.train.parallel import PARALLELS, parallel_of

CPU, ADAM = torch.device("cpu"), Choice(kind="adam")


@pytest.mark.parametrize("kind", PARALLELS.names())
def test_device_format_processes_and_kernels_are_told(tiny, kind):
    recipe = tiny(f"train.parallel={kind}", "train.precision=auto", "train.recompute=true")
    machine = Machine(CPU, torch.bfloat16, 3)
    told = machine.told(recipe, recipe.model, parallel_of(Choice(kind=kind), ADAM, World(0, 2), CPU))
    own = "in C, with biases by an own kernel," if library() else "own kernel"
    assert told.startswith(
        f"cpu, bfloat16 (auto), 2 processes x 3 threads ({kind}), attention dot ({own} up to 256 keys"
    )
    assert told.endswith(f"adam, memory from {allocator()}, recomputing blocks")


def test_what_the_recipe_says_is_not_called_automatic(tiny):
    told = Machine(CPU, torch.float32, 1).told(
        tiny(), ModelConfig(attention="cosine"), parallel_of(Choice(kind="shard"), ADAM, World(), CPU)
    )
    assert told == f"cpu, float32, 1 process x 1 threads, attention cosine, adam, memory from {allocator()}"


def test_the_measured_product_is_that_of_the_model(tiny):
    assert shape_of(tiny()) == (120, 16, 32)


def test_env_tells_what_a_run_would_choose():
    facts = automatic(CPU)
    assert facts["training_precision"] in ("float32", "bfloat16")
    assert {"bfloat16_gain", "training_processes", "training_attention"} <= facts.keys()


def test_a_damaged_record_of_the_machine_is_told(tiny, tmp_path):
    (tmp_path / "machine.json").write_text('{"precision": "float8"}')
    with pytest.raises(CheckpointError, match=r"machine.json: not the record of a machine.*delete the file"):
        run_dtype(tiny(), tmp_path, CPU)
