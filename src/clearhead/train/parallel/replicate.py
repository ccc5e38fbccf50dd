"""Every process has the whole model (data parallelism; Li et al., 2020, arXiv:2006.15704)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clearhead.train.parallel.base import PARALLELS, Parallel
from clearhead.train.parallel.lesson import Lesson


@PARALLELS.register("replicate")
class Replicate(Parallel):
    """A whole model in each process, gradients summed once an update. The fastest on GPUs, if the model fits."""

    def spread(self, lesson: Lesson, device: torch.device) -> None:
        self.learner = lesson.to(device).learner
        self.world.agree(self.learner)

    def collect(self) -> list[Tensor]:
        parameters = list(self.learner.parameters())
        for each, found in zip(parameters, self.present(parameters), strict=True):
            if found and each.grad is None:
                each.grad = torch.zeros_like(each)
        gradients = [each.grad for each in parameters if each.grad is not None]
        self.world.add(gradients)
        return gradients

    def norm(self, gradients: Sequence[Tensor]) -> float:
        return float(nn.utils.get_total_norm(gradients))
