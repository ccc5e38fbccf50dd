"""The doorway of the parallel family: which process holds which numbers of a model, and how gradients meet.

An update is the sum of the gradients of its batches, divided once by their tokens; the processes share out the
batches. However they hold the model, that sum is the same. A checkpoint holds whole tensors: any number of processes
reads it, under any part of this family.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from clearhead.core.processes import World
from clearhead.core.registry import Choice, Registry
from clearhead.train.optimizers import OPTIMIZERS
from clearhead.train.parallel.lesson import Lesson


class Parallel:
    """How the processes of a run hold its model. Wiring: the processes.

    The methods are collective: every process calls them, in the same order.
    """

    divides: ClassVar[frozenset[str]] = frozenset()  # a process holds a share of `weights`, `gradients`, `states`

    learner: nn.Module  # since `spread`

    def __init__(self, world: World) -> None:
        self.world = world

    def spread(self, lesson: Lesson, device: torch.device) -> None:
        """Give every process its part of the first one's model on its device; before an optimiser is made."""
        raise NotImplementedError

    def collect(self) -> list[Tensor]:
        """Sum the gradients over all processes; returns what this one steps by, in the memory of its gradients."""
        raise NotImplementedError

    def norm(self, gradients: Sequence[Tensor]) -> float:
        """The length of all gradients as one vector, from what each process has collected."""
        (squares,) = self.world.total(float(nn.utils.get_total_norm(gradients)) ** 2)
        return math.sqrt(squares)

    def present(self, parameters: Sequence[Tensor]) -> list[bool]:
        """Which of the parameters have a gradient in any process."""
        return [count > 0 for count in self.world.total(*(float(each.grad is not None) for each in parameters))]

    def stepped(self) -> None:
        """Return when the steps of all processes can be seen here."""

    def owns(self, parameter: Tensor) -> bool:
        """Whether this process steps the parameter, or its share of it."""
        return True

    def own(self, tensor: Tensor) -> Tensor:
        """The elements of a parameter that this process holds, in the same memory."""
        return tensor

    def whole(self, tensor: Tensor) -> Tensor:
        """A tensor of the model with all its elements, in the first process; elsewhere it may be empty."""
        return tensor

    def bring(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The named tensors of all processes' gradients or optimisers, whole, in the first process."""
        return {name: self.whole(each) for name, each in tensors.items()}

    def part(self, tensor: Tensor, like: Tensor) -> Tensor:
        """What this process holds of a whole tensor: the model's parameter `like`, or what is kept for it."""
        return tensor

    @contextmanager
    def plain(self, weights: Mapping[str, Tensor] | None = None) -> Iterator[nn.Module]:
        """The learner as an ordinary module on the device, for the first process alone: to validate, and to finish.

        Args:
            weights: whole tensors to validate; None = whatever they are, the caller loads others.
        """
        yield self.learner


PARALLELS: Registry[Parallel] = Registry("parallel")


def parallel_of(choice: Choice | None, optimizer: Choice, world: World, device: torch.device) -> Parallel:
    """The chosen part, or the fastest one; where there is one process, there is nothing to divide."""
    alone = getattr(OPTIMIZERS.get(optimizer.kind), "each_alone", False)
    fastest = Choice(kind="shared_memory" if world.together and alone and device.type == "cpu" else "replicate")
    return PARALLELS.build((choice or fastest) if world.size > 1 else Choice(kind="replicate"), world)
