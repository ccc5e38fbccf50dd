"""The processes of one machine have the weights in common, and each steps a share of the parameters.

    weights     once, in common memory
    gradients   of each process, in common memory too: whoever owns a parameter adds up all of them, and steps
    states      of the optimiser, with the owner alone (Rajbhandari et al., 2020, arXiv:1910.02054, stage 1)

Nothing is sent: a sum reads the others' gradients where they lie, and a step is seen by all.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate, islice
from mmap import mmap
from typing import ClassVar

import torch
from torch import Tensor, nn

from clearhead.core.errors import ConfigError
from clearhead.core.shared_memory import common_memory
from clearhead.train.optimizers import parameter_groups
from clearhead.train.parallel.base import PARALLELS, Parallel
from clearhead.train.parallel.lesson import Lesson

ALIGNED = 64  # bytes: a line of the cache, and the widest register


@PARALLELS.register("shared_memory")
class SharedMemory(Parallel):
    """One set of weights for all processes of a machine, on its processor. The fastest there."""

    divides: ClassVar[frozenset[str]] = frozenset({"weights", "states"})

    def spread(self, lesson: Lesson, device: torch.device) -> None:
        if device.type != "cpu":
            remedy = "choose train.parallel replicate or shard"
            raise ConfigError("shared memory is for processes on a CPU", found=device, remedy=remedy)
        self.learner = lesson.learner
        self.world.agree(self.learner)
        self.trained = [each for each in self.learner.parameters() if each.requires_grad]
        self.owners = owners(self.learner, self.world.size)
        self._map()
        self.hooks = [
            parameter.register_post_accumulate_grad_hook(_keeper(place))  # type: ignore[no-untyped-call]
            for parameter, place in zip(self.trained, self.gradients[self.world.rank], strict=True)
        ]

    def _map(self) -> None:
        """Move the weights to common memory, and make places for the gradients of each process there."""
        parameters = list(self.learner.parameters())
        models = [*parameters, *self.trained * self.world.size]  # of the shapes of whatever lies there
        *offsets, size = accumulate((-(-each.nbytes // ALIGNED) * ALIGNED for each in models), initial=0)
        memory = common_memory(self.world, size)
        places = iter([_placed(memory, offset, each) for each, offset in zip(models, offsets, strict=True)])
        for parameter in parameters:
            place = next(places)
            if self.world.first:
                place.copy_(parameter.detach())
            parameter.data = place
        self.gradients = [list(islice(places, len(self.trained))) for _ in range(self.world.size)]
        self.world.wait()

    def collect(self) -> list[Tensor]:
        own = self.gradients[self.world.rank]
        for parameter, place in zip(self.trained, own, strict=True):
            if parameter.grad is None:  # perhaps another process has one
                place.zero_()
        found = self.present(self.trained)  # all have finished theirs
        mine = [index for index, each in enumerate(self.trained) if found[index] and self.owns(each)]
        for rank, theirs in enumerate(self.gradients):
            if mine and rank != self.world.rank:
                torch._foreach_add_([own[index] for index in mine], [theirs[index] for index in mine])
        for each in self.trained:
            each.grad = None  # an optimiser leaves out what has none
        for index in mine:
            self.trained[index].grad = own[index]
        return [own[index] for index in mine]

    def stepped(self) -> None:
        self.world.wait()

    def owns(self, parameter: Tensor) -> bool:
        return self.owners.get(parameter) == self.world.rank

    def bring(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.world.bring(tensors)

    @contextmanager
    def plain(self, weights: Mapping[str, Tensor] | None = None) -> Iterator[nn.Module]:
        if weights is None:  # at the end: an ordinary model, whatever its next owner does with it
            for hook in self.hooks:
                hook.remove()
            for each in self.learner.parameters():
                each.data = each.detach().clone()
            self.hooks, self.gradients = [], []
        yield self.learner


def owners(learner: nn.Module, count: int) -> dict[Tensor, int]:
    """Which process steps which parameter: of each role of an optimiser about as many elements for all."""
    found: dict[Tensor, int] = {}
    totals = [0] * count
    for group in parameter_groups(learner):
        loads = [0] * count
        members: list[nn.Parameter] = group["params"]  # type: ignore[assignment]
        for each in sorted(members, key=Tensor.numel, reverse=True):
            _, _, rank = min(zip(loads, totals, range(count), strict=True))
            found[each] = rank
            loads[rank] += each.numel()
            totals[rank] += each.numel()
    return found


def _placed(memory: mmap, offset: int, like: Tensor) -> Tensor:
    """A tensor of that shape and format at a place in memory."""
    if not like.numel():
        return torch.empty_like(like)
    return torch.frombuffer(memory, dtype=like.dtype, count=like.numel(), offset=offset).view_as(like)


def _keeper(place: Tensor) -> Callable[[Tensor], None]:
    """What puts the gradient of an update's first batch in its place; further ones are added there."""

    def keep(parameter: Tensor) -> None:
        if parameter.grad is not None and parameter.grad is not place:
            place.copy_(parameter.grad)
            parameter.grad = place

    return keep
