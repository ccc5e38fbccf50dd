"""The processes that train one model together: who I am among them, and how numbers meet.

They are started by `torchrun`, or by a run itself where one process would leave cores idle (`train/workers.py`).
"""

import contextlib
import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from clearhead.core.errors import ConfigError, ProcessError

START = datetime.timedelta(minutes=5)  # for all to be there
PATIENCE = datetime.timedelta(hours=12)  # the others wait while the first one validates


@dataclass(frozen=True)
class World:
    """The processes of a run; all methods are collective: every process calls them, in the same order."""

    rank: int = 0
    size: int = 1
    together: bool = False  # they see each other's memory (core/shared_memory.py)

    @property
    def first(self) -> bool:
        """True in the process that writes files and talks to the user."""
        return self.rank == 0

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes; they have the same shapes everywhere."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([each.reshape(-1) for each in tensors])
        dist.all_reduce(flat)
        for each, total in zip(tensors, torch.split(flat, [each.numel() for each in tensors]), strict=True):
            each.copy_(total.view_as(each))

    def total(self, *numbers: float) -> list[float]:
        """The sums of numbers over the processes, in float64."""
        if self.size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(each) for each in sums]

    def gather(self, value: object) -> list[Any]:
        """A value of each process, by rank."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def bring(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The named tensors of all processes in the first one, elsewhere its own; no two have a name in common."""
        found = dict(tensors)
        outlines = self.gather({name: (each.shape, each.dtype) for name, each in tensors.items()})
        for rank, outline in enumerate(outlines[1:], start=1):
            for name, (shape, dtype) in outline.items():
                if self.rank == rank:
                    dist.send(tensors[name].contiguous(), dst=0)
                elif self.first:
                    found[name] = torch.empty(shape, dtype=dtype)
                    dist.recv(found[name], src=rank)
        return found

    def agree(self, model: nn.Module) -> None:
        """Give every process the parameters and buffers of the first one."""
        if self.size > 1:
            for each in [*model.parameters(), *model.buffers()]:
                dist.broadcast(each.data, src=0)

    def wait(self) -> None:
        """Return when every process has come here."""
        self.total(0.0)


ALONE = World()


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The world that the environment names (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, as torchrun sets them).

    Raises:
        ProcessError: another process has gone while this one waited for it.
    """
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, rank, size = next(rendezvous("env://", timeout=START))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
        yield World(rank, size)
    except RuntimeError as error:
        if not _about_connection(error):
            raise
        remedy = "its own output says why it ended; continue with --resume"
        raise ProcessError("the connection to another process of the run is lost", remedy=remedy) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _about_connection(error: RuntimeError) -> bool:
    """Whether it was raised by the network: gloo has no error class of its own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def launched() -> bool:
    """True in a process that was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_size() -> int:
    """Processes of the run on this machine; one where nobody says it, as in a container of its own."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def own_device(device: torch.device) -> torch.device:
    """Of several processes on one machine, each takes the GPU of its number (LOCAL_RANK, as torchrun sets it)."""
    if device.type != "cuda" or device.index is not None or not launched():
        return device
    rank, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if rank >= count:
        found = f"process {rank + 1} on this machine, {count} GPUs"
        raise ConfigError("more processes than GPUs", found=found, remedy="start one process for each GPU")
    own = torch.device("cuda", rank)
    torch.cuda.set_device(own)  # whose generator a checkpoint keeps, and where nccl works
    return own
