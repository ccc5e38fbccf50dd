"""Every process has a share of each matrix (Rajbhandari et al., 2020, arXiv:1910.02054, stage 3; torch's FSDP2).

Weights, gradients and optimiser states take 1 / processes of the memory. A block's weights are gathered when the block
runs, forward and backward, and given back at once; its gradients are summed while the backward pass goes on.
"""

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from clearhead.bundle.weights import load_weights
from clearhead.model.block import Block
from clearhead.train.parallel.base import PARALLELS, Parallel
from clearhead.train.parallel.lesson import Lesson


@PARALLELS.register("shard")
class Shard(Parallel):
    """Each block is divided among the processes, and what is in no block, as one more unit. For large models."""

    divides: ClassVar[frozenset[str]] = frozenset({"weights", "gradients", "states"})

    def spread(self, lesson: Lesson, device: torch.device) -> None:
        self.device = device
        self.learner = lesson.learner
        self.world.agree(self.learner)
        if self.world.first:  # kept in main memory between validations
            self.copy = copy.deepcopy(self.learner).cpu()
        mesh = init_device_mesh(device.type, (self.world.size,))
        for each in (*units(lesson), lesson):
            fully_shard(each, mesh=mesh)
        for module in lesson.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)  # a sum, where the usual is a mean
                module.set_force_sum_reduction_for_comms(True)  # gloo knows no other

    def collect(self) -> list[Tensor]:
        return [self.own(each.grad) for each in self.learner.parameters() if each.grad is not None]  # already summed

    def own(self, tensor: Tensor) -> Tensor:
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    def whole(self, tensor: Tensor) -> Tensor:
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        return full.cpu() if self.world.first else full.new_empty(0)

    def part(self, tensor: Tensor, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor) or tensor.shape != like.shape:  # buffers, counts of steps
            return tensor
        return distribute_tensor(tensor.to(self.device), like.device_mesh, like.placements, src_data_rank=None)

    @contextmanager
    def plain(self, weights: Mapping[str, Tensor] | None = None) -> Iterator[nn.Module]:
        if weights is not None:
            load_weights(self.copy, weights, Path())
        try:
            yield self.copy.to(self.device)
        finally:
            self.copy.cpu()


def units(lesson: nn.Module) -> list[Block]:
    """The blocks that share no parameter with anything outside; the others stay in the unit of what is in no block."""
    uses = _uses(lesson)
    times = Counter(each for _, each in lesson.named_modules(remove_duplicate=False) if isinstance(each, Block))
    return [
        block
        for block, count in times.items()
        if all(uses[parameter] == count * inside for parameter, inside in _uses(block).items())
    ]


def _uses(module: nn.Module) -> Counter[nn.Parameter]:
    """How many names each parameter has in a module."""
    return Counter(each for _, each in module.named_parameters(remove_duplicate=False))
