"""Optimisers; the mathematics is torch's, the grouping of parameters is ours."""

from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from clearhead.core.errors import TrainingError
from clearhead.core.registry import Choice, Registry

Groups = list[dict[str, object]]
OPTIMIZERS: Registry[Callable[[Groups], torch.optim.Optimizer]] = Registry("optimizer")


class _Adaptive:
    """Options that all share."""

    needs_whole: ClassVar[bool] = False  # does not work on the shares of divided matrices
    each_alone: ClassVar[bool] = True  # a parameter's step depends on its own gradient alone; no gradient, no step

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


@OPTIMIZERS.register("muon")
class Muon(_Adaptive):
    """Steps that are orthogonal matrices, for the linear maps inside the blocks; AdamW for tables and vectors.

    Five steps of Newton and Schulz turn the momentum of a map into the nearest matrix whose singular values are about
    1 (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon). Its size is that of AdamW's steps,
    0.2 sqrt(max(rows, columns)) (Liu et al., 2025, arXiv:2502.16982, section 2.2), so that AdamW's learning rate is a
    good first try. It keeps one number for each weight of a map where Adam keeps two.

    Args:
        momentum: of the maps, with Nesterov's look ahead.
    """

    needs_whole = True

    def __init__(
        self,
        *,
        momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95,
        beta1: float = 0.9,
        beta2: float = 0.98,
        epsilon: float = 1e-9,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(beta1=beta1, beta2=beta2, epsilon=epsilon, weight_decay=weight_decay)
        self.momentum = momentum

    def __call__(self, groups: Groups) -> torch.optim.Optimizer:
        maps = [each for each in groups if each.get("role", "map") == "map"]
        rest = [each for each in groups if each.get("role", "map") != "map"]
        decay = self.weight_decay
        parts: list[torch.optim.Optimizer] = []
        if maps:
            size = "match_rms_adamw"
            parts.append(torch.optim.Muon(maps, 0.0, decay, momentum=self.momentum, adjust_lr_fn=size))
        if rest:
            parts.append(torch.optim.AdamW(rest, 0.0, self.betas, self.epsilon, decay, fused=True))
        return Together(parts)


class Together(torch.optim.Optimizer):
    """Several optimisers that step as one; groups and states are those of its parts, in their order."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Let the parts work on these very groups and states."""
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups, part.state = [next(groups) for _ in part.param_groups], self.state


def parameter_groups(model: nn.Module) -> Groups:
    """Parameters by `role`: a `map` inside a block, a `table` (any other matrix), a `vector` (bias, gain), which has
    no weight decay. A role that nothing has is left out, and so is what is frozen."""
    roles: dict[str, list[nn.Parameter]] = {"map": [], "table": [], "vector": []}
    for name, each in model.named_parameters():
        if each.requires_grad:
            inside = "blocks" in name.split(".") and name.endswith(".weight") and each.dim() == 2
            roles["vector" if each.dim() < 2 else "map" if inside else "table"].append(each)
    groups: Groups = [{"params": members, "role": role} for role, members in roles.items() if members]
    if not groups:
        raise TrainingError("every parameter is frozen", expected="at least one group that is trained")
    for group in groups:
        if group["role"] == "vector":
            group["weight_decay"] = 0.0
    return groups


def states(choice: Choice) -> float:
    """Numbers that an optimiser keeps for each element of a matrix at most, seen after a step on small ones."""
    return max(_states(choice, role) for role in ("map", "table"))


def _states(choice: Choice, role: str) -> float:
    matrix = nn.Parameter(torch.zeros(16, 16))
    matrix.grad = torch.zeros_like(matrix)
    optimizer = OPTIMIZERS.build(choice)([{"params": [matrix], "role": role}])
    optimizer.step()
    kept = [each for state in optimizer.state.values() for each in state.values() if isinstance(each, torch.Tensor)]
    return sum(each.numel() for each in kept if each.dim()) / matrix.numel()
