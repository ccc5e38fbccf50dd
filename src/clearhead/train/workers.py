"""Further processes for a run on a CPU: small models leave a second core idle, two processes do not.

Each process computes the gradients of its share of an update's batches; the sum is what one process would have
computed (docs/log.md, "Two processes").
"""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from clearhead.core.devices import cores
from clearhead.core.errors import ConfigError, ProcessError, TrainingError
from clearhead.core.processes import ALONE, World, joined, launched
from clearhead.core.progress import say
from clearhead.core.shared_memory import may_share
from clearhead.train.recipe import Recipe

FAREWELL = 60.0  # seconds that a worker has to end after the run


@contextlib.contextmanager
def world_of(recipe: Recipe, out: Path, device: torch.device) -> Iterator[World]:
    """The processes of a run: those that torchrun has started, or this one with the workers that it starts."""
    if launched():
        with joined(device) as world:
            _require_share(recipe, world.size)
            yield replace(world, together=may_share(world))
        return
    count = process_count(recipe, device)
    _require_share(recipe, count)
    if count == 1:
        yield ALONE
        return
    with _environment(count), _workers(count, out) as workers, _told(workers), joined(device) as world:
        yield replace(world, together=may_share(world))


def process_count(recipe: Recipe, device: torch.device) -> int:
    """As the recipe says, or as many as have a core and a share of each update's batches for themselves."""
    plan = recipe.train
    if plan.processes:
        return plan.processes
    return math.gcd(plan.accumulate, cores()) if device.type == "cpu" and plan.threads == 0 else 1


def _require_share(recipe: Recipe, count: int) -> None:
    if recipe.train.accumulate % count:
        raise ConfigError(
            "the batches of an update do not divide among the processes",
            where="train.accumulate",
            found=f"{recipe.train.accumulate} batches, {count} processes",
            expected="a multiple of the number of processes",
        )


@contextlib.contextmanager
def _environment(count: int) -> Iterator[None]:
    """What torchrun would set, for the time of the run."""
    names = {"RANK": "0", "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "LOCAL_RANK": "0"}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    os.environ.update(names)
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


@contextlib.contextmanager
def _workers(count: int, out: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes 1, 2, ... of the run; signals from the terminal go to process 0 alone, which tells the others."""
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(1, count):
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            with open(out / f"worker-{rank}.log", "wb") as log:
                command = [sys.executable, "-m", "clearhead.train.worker", str(out)]
                environment = {**os.environ, **ranks}
                workers.append(subprocess.Popen(command, env=environment, stderr=log, start_new_session=True))
        yield workers
        for rank, each in enumerate(workers, start=1):
            if not _ended(each, FAREWELL):
                say(f"worker process {rank} has not ended {FAREWELL} s after the run and is stopped; the run is whole")
    finally:
        for each in workers:
            if each.poll() is None:
                each.send_signal(signal.SIGKILL)


@contextlib.contextmanager
def _told(workers: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """A broken connection means that a worker has died: say which, and how to go on."""
    try:
        yield
    except ProcessError as error:
        dead = [rank for rank, each in enumerate(workers, start=1) if _ended(each, 3)]
        if not dead:
            raise
        raise TrainingError(
            f"worker process {dead[0]} ended",
            found=f"exit status {workers[dead[0] - 1].returncode}",
            remedy=f"see worker-{dead[0]}.log in the run's folder, then continue with --resume",
        ) from error


def _ended(worker: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        worker.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
