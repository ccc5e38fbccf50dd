"""The doorway of the parallel family: which process holds which numbers of a model, and how gradients meet.

An update is the sum of the gradients of its batches, divided once by their tokens; the processes share out the
batches. However they hold the model, that sum is the same. A checkpoint holds whole tensors: any number of processes
reads it, under any part of this family.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from clearhead.core.processes import World
from clearhead.core.registry import Choice, Registry
from clearhead.train.parallel.lesson import Lesson


class Parallel:
    """How the processes of a run hold its model. Wiring: the processes.

    The methods are collective: every process calls them, in the same order.
    """

    divides: ClassVar[bool] = False  # a process holds a share of weights, gradients and optimiser states

    def __init__(self, world: World) -> None:
        self.world = world

    def spread(self, lesson: Lesson, device: torch.device) -> None:
        """Give every process its part of the first one's model on its device; before an optimiser is made."""
        raise NotImplementedError

    def add(self, gradients: Sequence[Tensor]) -> None:
        """Replace gradients of own batches by sums over all processes, if the backward pass has not done it."""
        raise NotImplementedError

    def own(self, tensor: Tensor) -> Tensor:
        """The elements of a parameter or gradient that this process holds, in the same memory."""
        raise NotImplementedError

    def norm(self, tensors: Sequence[Tensor]) -> float:
        """The length of all elements of all tensors as one vector."""
        raise NotImplementedError

    def whole(self, tensor: Tensor) -> Tensor:
        """A tensor of model or optimiser with all its elements, in the first process; elsewhere it may be empty."""
        raise NotImplementedError

    def part(self, tensor: Tensor, like: Tensor) -> Tensor:
        """What this process holds of a whole tensor: the model's parameter `like`, or what is kept for it."""
        raise NotImplementedError

    @contextmanager
    def plain(self, weights: Mapping[str, Tensor] | None = None) -> Iterator[nn.Module]:
        """The learner as an ordinary module on the device, for the first process alone: to validate, and to finish.

        Args:
            weights: whole tensors to validate; None = whatever they are, the caller loads others.
        """
        raise NotImplementedError
        yield


PARALLELS: Registry[Parallel] = Registry("parallel")


def parallel_of(choice: Choice, world: World) -> Parallel:
    """The chosen part; where there is one process, there is nothing to divide."""
    return PARALLELS.build(choice if world.size > 1 else Choice(kind="replicate"), world)
