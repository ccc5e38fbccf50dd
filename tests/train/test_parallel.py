"""Whichever way processes hold a model, they learn the same, and read each other's checkpoints bit for bit."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sameness import record

from clearhead.bundle.weights import read_weights
from clearhead.core.errors import ConfigError, ProcessError
from clearhead.core.processes import World, joined
from clearhead.core.registry import Choice
from clearhead.model import ModelConfig, Transformer
from clearhead.train import run, workers
from clearhead.train.objectives import OBJECTIVES
from clearhead.train.optimizers import OPTIMIZERS, parameter_groups
from clearhead.train.parallel import PARALLELS, Lesson, Replicate, Shard, SharedMemory, parallel_of
from clearhead.train.parallel.shard import units
from clearhead.train.parallel.shared_memory import owners
from clearhead.train.trainer import Trainer
from clearhead.train.workers import free_port

PLAN = ("train.accumulate=2", "train.updates=4", "train.log_every=1", "train.validate_every=2", "train.metric=loss")
PLAN += ("train.checkpoint_every=2", "model.dropout=0.0")
PLAN += (
    "train.optimizer={kind: adam, epsilon: 1.0e-4}",
)  # the bias of keys has a gradient of rounding alone: not scaled up
CPU, ADAM = torch.device("cpu"), Choice(kind="adam")
WAYS = {
    "alone": ("train.processes=1",),
    "replicated": ("train.processes=2", "train.parallel=replicate"),
    "sharded": ("train.processes=2", "train.parallel=shard"),
    "shared": ("train.processes=2", "train.parallel=shared_memory"),
}


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    """The page of a run takes longer than these runs."""
    monkeypatch.setattr("clearhead.train.tasks.translation.write_report", lambda *given, **options: None)


@pytest.fixture(scope="module", params=[2, 3])
def checks(request) -> list[str]:
    """The checks that held in all of two or three processes."""
    script, count, port = Path(__file__).parent / "some_processes.py", request.param, str(free_port())
    commands = [[sys.executable, script, str(rank), str(count), port] for rank in range(count)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(each, **pipes) for each in commands]
    ends = [each.communicate(timeout=300) for each in processes]
    assert not any(each.returncode for each in processes), ends
    first, *others = (out.decode().splitlines() for out, _ in ends)
    return [each for each in first if all(each in held for held in others)]


@pytest.mark.parametrize("kind", PARALLELS.names())
def test_some_processes_compute_and_keep_what_one_does(checks, kind):
    from some_processes import MODELS

    assert [each for each in checks if each.startswith(kind)] == [f"{kind}: {name}" for name in MODELS]


def same_curve(one: Path, other: Path) -> None:
    for left, right in zip(record(one), record(other), strict=True):
        assert left.pop("kind") == right.pop("kind")
        assert left == pytest.approx(right, rel=1e-6, abs=1e-6)
    left, right = (read_weights(each / "model.safetensors") for each in (one, other))
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=0, atol=1e-6)


def stopped(recipe, folder: Path) -> None:
    """The run as it stands when a signal came in its second update."""
    plain = Trainer._update

    def update(self, batches, after, state):
        plain(self, batches, after, state)
        if state.update == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update", update)
        assert run(recipe, folder) is None


@pytest.mark.parametrize(
    ("before", "after"), [("sharded", "alone"), ("alone", "sharded"), ("shared", "alone"), ("sharded", "shared")]
)
def test_a_run_goes_on_with_other_processes_on_the_same_curve(tiny, tmp_path, before, after):
    run(tiny(*PLAN, *WAYS["alone"]), tmp_path / "whole")
    stopped(tiny(*PLAN, *WAYS[before]), tmp_path / "parts")
    assert run(tiny(*PLAN, *WAYS[after]), tmp_path / "parts", resume=True) is not None
    same_curve(tmp_path / "whole", tmp_path / "parts")


def test_one_process_has_nothing_to_divide():
    kinds = {name: type(parallel_of(Choice(kind=name), ADAM, World(), CPU)) for name in PARALLELS.names()}
    assert set(kinds.values()) == {Replicate}
    assert type(parallel_of(Choice(kind="shard"), ADAM, World(0, 2), CPU)) is Shard


def test_processes_of_one_machine_share_its_memory_if_nobody_chooses():
    assert type(parallel_of(None, ADAM, World(0, 2, together=True), CPU)) is SharedMemory
    assert type(parallel_of(None, ADAM, World(0, 2), CPU)) is Replicate
    assert type(parallel_of(None, ADAM, World(0, 2, together=True), torch.device("cuda"))) is Replicate
    assert type(parallel_of(Choice(kind="replicate"), ADAM, World(0, 2, together=True), CPU)) is Replicate


@pytest.fixture
def strange(monkeypatch):
    """An optimiser that may look at all parameters together."""
    monkeypatch.setitem(OPTIMIZERS._parts, "strange", lambda: torch.optim.SGD)


def test_an_optimiser_that_may_look_at_all_parameters_gets_all(tiny, strange):
    together = World(0, 2, together=True)
    assert type(parallel_of(None, Choice(kind="strange"), together, CPU)) is Replicate
    for way in ("shared_memory", "shard"):
        with pytest.raises(ConfigError, match=r"strange does not say that it steps each parameter alone.*each_alone"):
            tiny("train.optimizer=strange", f"train.parallel={way}")
    assert tiny("train.optimizer=strange", "train.parallel=replicate")


def test_shared_memory_is_for_processors():
    with pytest.raises(ConfigError, match=r"shared memory is for processes on a CPU.*replicate or shard"):
        SharedMemory(World(0, 2)).spread(Lesson(torch.nn.Linear(2, 2), None), torch.device("cuda"))


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_each_parameter_has_one_owner_and_all_own_as_much(count):
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 16, "heads": 2, "d_ff": 32, "tie": "all"}
    model = Transformer(ModelConfig(**{**sizes, "source_vocab": 23, "target_vocab": 23}))
    found = owners(model, count)
    assert found.keys() == set(model.parameters())
    maps = [group for group in parameter_groups(model) if group["role"] == "map"]
    loads = [0] * count
    for each in maps[0]["params"]:
        loads[found[each]] += each.numel()
    assert max(loads) - min(loads) <= max(each.numel() for each in maps[0]["params"])


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 8), ({"layer_groups": 2}, 4), ({"layer_groups": 2, "shared": "feedforward"}, 0), ({"tie": "all"}, 8)],
)
def test_a_block_is_a_unit_unless_it_shares_with_another(changes, count):
    sizes = {"encoder_layers": 4, "decoder_layers": 4, "d_model": 6, "heads": 2, "d_ff": 5, "tie": "output"}
    model = Transformer(ModelConfig(**{**sizes, "source_vocab": 23, "target_vocab": 23, **changes}))
    assert len(units(Lesson(model, OBJECTIVES.build(Choice(kind="translation"))))) == count


def test_an_unknown_way_is_refused_with_the_nearest_name(tiny):
    with pytest.raises(ConfigError, match=r"no parallel of kind 'shrad'.*did you mean 'shard'"):
        tiny("train.parallel=shrad")


LOST = """
import os, sys, torch
from clearhead.core.processes import joined
os.environ.update(RANK=sys.argv[1], WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[2])
with joined(torch.device("cpu")) as world:
    world.wait()
    os._exit(3)
"""


def as_first_of(count: int, port: str, patch: pytest.MonkeyPatch) -> None:
    """The environment of process 0."""
    names = {"RANK": "0", "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in names.items():
        patch.setenv(name, value)


def wait_twice() -> None:
    with joined(torch.device("cpu")) as world:
        world.wait()
        world.wait()


def test_a_connection_that_is_lost_is_told_in_one_line(monkeypatch):
    port = str(free_port())
    other = subprocess.Popen([sys.executable, "-c", LOST, "1", port])
    as_first_of(2, port, monkeypatch)
    with pytest.raises(ProcessError, match=r"connection to another process of the run is lost.*--resume"):
        wait_twice()
    assert other.wait(timeout=60) == 3
    assert not torch.distributed.is_initialized()


def test_other_failures_keep_their_own_words(monkeypatch):
    as_first_of(1, str(free_port()), monkeypatch)
    with pytest.raises(RuntimeError, match=r"^mine$"), joined(torch.device("cpu")):
        raise RuntimeError("mine")


def test_a_worker_that_does_not_end_is_told_and_stopped(tmp_path, monkeypatch, capsys):
    plain = subprocess.Popen
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(workers.subprocess, "Popen", lambda command, **options: plain(sleeper, **options))
    monkeypatch.setattr(workers, "FAREWELL", 0.1)
    with workers._workers(2, tmp_path) as started:
        pass
    assert "worker process 1 has not ended" in capsys.readouterr().err
    assert started[0].wait(timeout=60) == -signal.SIGKILL
