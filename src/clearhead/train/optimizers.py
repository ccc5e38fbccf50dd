"""Optimisers; the mathematics is torch's, the grouping of parameters is ours."""

from collections.abc import Callable

import torch
from torch import nn

from clearhead.core.errors import TrainingError
from clearhead.core.registry import Choice, Registry

Groups = list[dict[str, object]]
OPTIMIZERS: Registry[Callable[[Groups], torch.optim.Optimizer]] = Registry("optimizer")


class _Adaptive:
    """Options that Adam and AdamW share."""

    def __init__(
        self, *, beta1: float = 0.9, beta2: float = 0.98, epsilon: float = 1e-9, weight_decay: float = 0.0
    ) -> None:
        self.betas, self.epsilon, self.weight_decay = (beta1, beta2), epsilon, weight_decay


@OPTIMIZERS.register("adam")
class Adam(_Adaptive):
    """Kingma and Ba, 2014, arXiv:1412.6980; defaults of Vaswani et al., 2017; decay is added to the gradient."""

    def __call__(self, groups: Groups) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            groups, lr=0.0, betas=self.betas, eps=self.epsilon, weight_decay=self.weight_decay, fused=True
        )


@OPTIMIZERS.register("adamw")
class AdamW(_Adaptive):
    """Loshchilov and Hutter, 2017, arXiv:1711.05101; decay shrinks the weights themselves."""

    def __call__(self, groups: Groups) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            groups, lr=0.0, betas=self.betas, eps=self.epsilon, weight_decay=self.weight_decay, fused=True
        )


def parameter_groups(model: nn.Module) -> Groups:
    """Matrices first; vectors (biases, gains) in a second group without weight decay; what is frozen in none."""
    trained = [each for each in model.parameters() if each.requires_grad]
    if not trained:
        raise TrainingError("every parameter is frozen", expected="at least one group that is trained")
    matrices = [each for each in trained if each.dim() >= 2]
    vectors = [each for each in trained if each.dim() < 2]
    groups: Groups = [{"params": matrices}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    return groups


def states(choice: Choice) -> float:
    """Numbers that an optimiser keeps for each element of a matrix, seen after a step on a small one."""
    matrix = nn.Parameter(torch.zeros(16, 16))
    matrix.grad = torch.zeros_like(matrix)
    optimizer = OPTIMIZERS.build(choice)([{"params": [matrix]}])
    optimizer.step()
    kept = [each for state in optimizer.state.values() for each in state.values() if isinstance(each, torch.Tensor)]
    return sum(each.numel() for each in kept if each.dim()) / matrix.numel()
