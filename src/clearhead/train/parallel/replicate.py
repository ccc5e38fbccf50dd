"""Every process has the whole model (data parallelism; Li et al., 2020, arXiv:2006.15704)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from clearhead.train.parallel.base import PARALLELS, Parallel
from clearhead.train.parallel.lesson import Lesson


@PARALLELS.register("replicate")
class Replicate(Parallel):
    """A whole model in each process, gradients summed once an update. The fastest, if the model fits."""

    def spread(self, lesson: Lesson, device: torch.device) -> None:
        self.learner = lesson.to(device).learner
        self.world.agree(self.learner)

    def add(self, gradients: Sequence[Tensor]) -> None:
        self.world.add(gradients)

    def own(self, tensor: Tensor) -> Tensor:
        return tensor

    def norm(self, tensors: Sequence[Tensor]) -> float:
        return float(nn.utils.get_total_norm(tensors))

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor

    def part(self, tensor: Tensor, like: Tensor) -> Tensor:
        return tensor

    @contextmanager
    def plain(self, weights: Mapping[str, Tensor] | None = None) -> Iterator[nn.Module]:
        yield self.learner
