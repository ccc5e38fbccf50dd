"""A whole run: recipe in, bundle out. Each stage finds what an earlier part of the run has left.

recipe.yaml ─ tokenizers ─ token stores ─ Trainer.fit ─ best or averaged weights ─ bundle, scores, report
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clearhead.bundle import Bundle
from clearhead.core.devices import autocast, cores, pick_device, set_threads
from clearhead.core.processes import World, local_size, own_device
from clearhead.core.progress import say
from clearhead.core.seeds import derive, seed_everything
from clearhead.train.checkpoint import Checkpoints
from clearhead.train.finish import finish
from clearhead.train.folder import open_folder
from clearhead.train.learner import build_learner
from clearhead.train.machine import Machine, describe, run_dtype
from clearhead.train.metrics import Record
from clearhead.train.parallel import parallel_of
from clearhead.train.recipe import Recipe
from clearhead.train.tasks import Task, task_of
from clearhead.train.trainer import Trainer
from clearhead.train.workers import world_of


def run(recipe: Recipe, out: Path, *, resume: bool = False) -> Bundle | None:
    """Train from raw text to a bundle in `out`.

    Returns:
        The bundle, or None if the run was asked to stop; `resume` continues it later.
    """
    if int(os.environ.get("RANK", "0")):  # of torchrun: the first process keeps the folder
        return take_part(recipe, out)
    with open_folder(recipe, out, resume=resume):
        return take_part(recipe, out)


def take_part(recipe: Recipe, out: Path) -> Bundle | None:
    """The part of one process in the run of an opened folder; every process returns the same."""
    device = own_device(pick_device(recipe.train.device))
    with world_of(recipe, out, device) as world:
        return _run(recipe, out, device, world)


def _run(recipe: Recipe, out: Path, device: torch.device, world: World) -> Bundle | None:
    threads = set_threads(recipe.train.threads or max(1, cores() // local_size()))
    seed_everything(recipe.seed)
    if not world.first:
        world.wait()  # until the first one has written tokenizers and stores
    task = task_of(recipe, out)
    learner = build_learner(recipe, task)
    parallel = parallel_of(recipe.train.parallel, recipe.train.optimizer, world, device)
    machine = Machine(device, run_dtype(recipe, out, device), threads)
    if world.first:
        set_threads(recipe.train.threads)  # the others wait
        task.prepare(machine)
        set_threads(threads)
        world.wait()
        model = task.objective.product(learner)
        say(f"{describe(model)}\n{machine.told(recipe, model.config, parallel)}")
    else:
        task.prepare(machine)
        torch.manual_seed(derive(recipe.seed, "process", world.rank))
    checkpoints = Checkpoints(out / "checkpoints", recipe.train.keep, recipe.train.checkpoint_every)
    state = Trainer(
        recipe=recipe,
        model=learner.train(),
        objective=task.objective,
        batches=lambda place: task.batches(place, world),
        validate=validator(task, machine),
        checkpoints=checkpoints,
        record=lambda update: Record(out, update),
        machine=machine,
        parallel=parallel,
    ).fit()
    if state.update < state.updates and not state.stopped:
        say(f"stopped after update {state.update}; continue with --resume")
        return None
    if not world.first:
        world.wait()
        return Bundle.load(out)
    set_threads(recipe.train.threads)
    with parallel.plain() as plain:
        bundle = finish(task, out, plain.eval(), checkpoints, state)
    world.wait()
    return bundle


def validator(task: Task, machine: Machine) -> Callable[[nn.Module], dict[str, Any]]:
    """What the loop calls to learn how good the model is: the scores of its task, and `metric`, larger is better."""

    def validate(learner: nn.Module) -> dict[str, Any]:
        with autocast(machine.device, machine.dtype):
            metrics = task.validate(learner)
        return {**metrics, "metric": task.rank(metrics)}

    return validate
