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
from clearhead.core.devices import autocast, cores, pick_device, pick_dtype, set_threads
from clearhead.core.errors import CheckpointError
from clearhead.core.files import read_json, write_json
from clearhead.core.processes import World, local_size
from clearhead.core.progress import say
from clearhead.core.seeds import derive, seed_everything
from clearhead.model import Transformer
from clearhead.model.inventory import freeze
from clearhead.train.checkpoint import Checkpoints
from clearhead.train.finish import finish
from clearhead.train.folder import open_folder
from clearhead.train.materials import build_model
from clearhead.train.metrics import Record
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
    device = pick_device(recipe.train.device)
    with world_of(recipe, out, device) as world:
        return _run(recipe, out, device, world)


def _run(recipe: Recipe, out: Path, device: torch.device, world: World) -> Bundle | None:
    threads = set_threads(recipe.train.threads or max(1, cores() // local_size()))
    seed_everything(recipe.seed)
    if not world.first:
        world.wait()  # until the first one has written tokenizers and stores
    task = task_of(recipe, out)
    model = build_model(recipe, task.source, task.target)
    freeze(model, recipe.train.freeze)
    task.require_reach(model)
    learner = task.objective.learner(model).to(device)
    dtype = run_dtype(recipe, out, device)
    if world.first:
        world.wait()
        say(f"{describe(model)}; {device}, {str(dtype).removeprefix('torch.')}, {world.size} x {threads} threads")
    else:
        torch.manual_seed(derive(recipe.seed, "process", world.rank))
    checkpoints = Checkpoints(out / "checkpoints", recipe.train.keep, recipe.train.checkpoint_every)
    state = Trainer(
        recipe=recipe,
        model=learner.train(),
        objective=task.objective,
        batches=lambda place: task.batches(place, world),
        validate=validator(task, learner, device, dtype),
        checkpoints=checkpoints,
        record=lambda update: Record(out, update),
        device=device,
        dtype=dtype,
        world=world,
    ).fit()
    if state.update < state.updates and not state.stopped:
        say(f"stopped after update {state.update}; continue with --resume")
        return None
    if not world.first:
        world.wait()
        return Bundle.load(out)
    set_threads(recipe.train.threads)
    bundle = finish(task, out, learner.eval(), checkpoints, state)
    world.wait()
    return bundle


def run_dtype(recipe: Recipe, out: Path, device: torch.device) -> torch.dtype:
    """The number format of the run: measured once and kept, so that a resumed run computes with the same one."""
    path = out / "machine.json"
    if not path.exists():
        name = str(pick_dtype(recipe.train.precision, device)).removeprefix("torch.")
        write_json(path, {"precision": name, "device": str(device), "threads": torch.get_num_threads()})
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[read_json(path, CheckpointError)["precision"]]


def describe(model: Transformer) -> str:
    """Kind, parameters and vocabularies in a few words."""
    config, parameters = model.config, sum(each.numel() for each in model.parameters())
    return f"{config.kind}, {parameters:,} parameters, vocabulary {config.source_vocab:,} and {config.target_vocab:,}"


def validator(task: Task, learner: nn.Module, device: torch.device, dtype: torch.dtype) -> Callable[[], dict[str, Any]]:
    """What the loop calls to learn how good the model is: the scores of its task, and `metric`, larger is better."""

    def validate() -> dict[str, Any]:
        with autocast(device, dtype):
            metrics = task.validate(learner)
        return {**metrics, "metric": task.rank(metrics)}

    return validate
