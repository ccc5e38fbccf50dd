"""What a run would take, before it is begun: parameters, memory, updates, time and disk space.

The data is prepared as the run would prepare it, in a temporary folder; of a text corpus the first 20 million
characters. The time comes from a few real updates and the memory of activations from a real forward pass, so parts of
your own are counted too.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clearhead.bundle.weights import weights_of
from clearhead.core.devices import autocast, cores, pick_device, set_threads
from clearhead.core.errors import UsageError
from clearhead.core.processes import World, launched
from clearhead.core.seeds import seed_everything, torch_states
from clearhead.core.shared_memory import known
from clearhead.data.buckets import Place
from clearhead.model.accounting.activations import held
from clearhead.train.checkpoint import Checkpoints, optimizer_tensors
from clearhead.train.learner import build_learner
from clearhead.train.machine import Machine, run_dtype
from clearhead.train.parallel import Lesson, Parallel, Replicate, parallel_of
from clearhead.train.recipe import Recipe
from clearhead.train.tasks import Task, kind_of, task_of
from clearhead.train.trainer import TRIAL, Trainer
from clearhead.train.workers import process_count

LOOK = 50  # updates whose batches are looked at
WARM, TIMED = 2, 5  # updates before and while the time is taken
LIMIT = 30.0  # seconds after which no further update is timed


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run would take; memory is that of one process."""

    machine: str  # what the run would choose by itself
    parameters: int
    trained_parameters: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int  # kept for the backward pass of the largest batch that was seen
    memory_bytes: int  # of all four
    updates: int
    tokens_per_update: float  # that the loss counts
    tokens: int
    seconds_per_update: float
    training_seconds: float  # validations left out
    checkpoint_bytes: int
    disk_bytes: int  # that the folder of the run takes at most, besides token files of what was not read
    disk_free_bytes: int


def forecast(recipe: Recipe, out: Path) -> Forecast:
    """What a run of this recipe into `out` would take on this machine; leaves nothing behind.

    Raises:
        UsageError: several processes were started for it.
    """
    if launched():
        raise UsageError("a dry run is one process", remedy="start it without torchrun")
    device = pick_device(recipe.train.device)
    size = process_count(recipe, device)
    threads = set_threads(recipe.train.threads or max(1, cores() // size))
    seed_everything(recipe.seed)
    with tempfile.TemporaryDirectory(prefix="clearhead-dry-run-") as folder:
        task = task_of(kind_of(recipe).sampled(recipe), Path(folder))
        learner = build_learner(recipe, task).train()
        machine = Machine(device, run_dtype(recipe, Path(folder), device), threads)
        task.prepare(machine, rehearsal=True)
        trainer = _trainer(recipe, task, learner, machine, Path(folder), size)
        seconds = _pace(trainer)
        told = machine.told(recipe, learner.config, _parallel(recipe, size, device))
        return _told(trainer, task, told, seconds, size, _bytes_in(Path(folder)), out)


def _trainer(recipe: Recipe, task: Task, learner: Any, machine: Machine, folder: Path, size: int) -> Trainer:
    """A trainer alone that takes the share of the first of `size` processes."""

    def nothing(_: object) -> Any:
        raise AssertionError("a rehearsal neither validates nor records")

    return Trainer(
        recipe=recipe,
        model=learner,
        objective=task.objective,
        batches=lambda place: task.batches(place, World(0, size)),
        validate=nothing,
        checkpoints=Checkpoints(folder / "checkpoints", keep=1, every=1),
        record=nothing,
        machine=machine,
        parallel=Replicate(World()),
    )


def _pace(trainer: Trainer) -> float:
    """Seconds of an update: the median of some after the first ones."""
    began, seconds = time.perf_counter(), []
    for number, each in enumerate(trainer.rehearse(WARM + TIMED), start=1):
        seconds.append(each)
        if number > WARM and time.perf_counter() - began > LIMIT:
            break
    return statistics.median(seconds[WARM:])


def _told(trainer: Trainer, task: Task, machine: str, pace: float, size: int, data: int, out: Path) -> Forecast:
    plan, learner = trainer.recipe.train, trainer.model
    looked = [batches for batches, _ in islice(task.batches(Place(), World()), LOOK)]
    tokens = statistics.mean(sum(each.tokens for each in batches) for batches in looked)
    updates = plan.updates if plan.minutes is None else _within(plan.minutes, pace, plan.updates)
    memory = _memory(trainer, size, largest(looked))
    return Forecast(
        machine=machine,
        parameters=sum(each.numel() for each in learner.parameters()),
        trained_parameters=sum(each.numel() for each in learner.parameters() if each.requires_grad),
        **memory,
        memory_bytes=sum(memory.values()),
        updates=updates,
        tokens_per_update=tokens,
        tokens=round(updates * tokens),
        seconds_per_update=pace,
        training_seconds=updates * pace,
        **_disk(trainer, size, data),
        disk_free_bytes=shutil.disk_usage(_there(out)).free,
    )


def _memory(trainer: Trainer, size: int, batch: Any) -> dict[str, int]:
    """What one of `size` processes holds, by kind."""
    learner, divided = trainer.model, _parallel(trainer.recipe, size, trainer.machine.device).divides
    whole = {
        "weights": _bytes([*learner.parameters(), *learner.buffers()]),
        "gradients": _bytes(each for each in learner.parameters() if each.requires_grad),
        "states": _bytes(optimizer_tensors(trainer.optimizer).values()),
    }
    weights, gradients, states = (held // (size if name in divided else 1) for name, held in whole.items())
    return {
        "weight_bytes": weights,
        "gradient_bytes": gradients,
        "optimizer_bytes": states,
        "activation_bytes": activation_bytes(trainer.lesson, trainer.machine, batch),
    }


def _parallel(recipe: Recipe, size: int, device: torch.device) -> Parallel:
    """How the processes that the run would start hold its model."""
    return parallel_of(recipe.train.parallel, recipe.train.optimizer, World(0, size, together=known()), device)


def _disk(trainer: Trainer, size: int, data: int) -> dict[str, int]:
    """A checkpoint, and the whole folder: one more checkpoint than stay is in the making; the best, and the bundle."""
    weights = _bytes(weights_of(trainer.model).values())
    states = _bytes(optimizer_tensors(trainer.optimizer).values()) + size * _bytes(torch_states().values())
    checkpoint = weights + states
    return {
        "checkpoint_bytes": checkpoint,
        "disk_bytes": (trainer.recipe.train.keep + 1) * checkpoint + 2 * weights + data,
    }


def _within(minutes: float, pace: float, updates: int) -> int:
    """Updates that a time budget leaves."""
    return min(updates, max(TRIAL[1] + 1, int(60 * minutes / pace)))


def activation_bytes(lesson: Lesson, machine: Machine, batch: Any) -> int:
    """What one forward pass keeps for the backward pass, the loss included."""

    def loss() -> Tensor:
        with autocast(machine.device, machine.dtype):
            value: Tensor = lesson(batch.to(machine.device))[0]
        return value

    return sum(held(lesson, loss).values())


def largest(updates: Iterable[Sequence[Any]]) -> Any:
    """The batch with the most tokens, of equal ones that with the longest rows."""
    return max((each for batches in updates for each in batches), key=lambda each: max(_sizes(each)))


def _sizes(batch: Any) -> Iterator[tuple[int, int]]:
    """Elements and columns of the tables of a batch."""
    for each in fields(batch):
        value = getattr(batch, each.name)
        if isinstance(value, Tensor) and value.dim() == 2:
            yield value.numel(), value.shape[1]


def _bytes(tensors: Iterable[Tensor | nn.Parameter]) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)


def _bytes_in(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def _there(path: Path) -> Path:
    """The nearest folder of a path that is not made yet."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.is_dir())
