"""What every part is asked for: it learns one batch by heart, and no parameter is left out."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call


def memorise(model: nn.Module, loss: Callable[[], Tensor], *, goal: float = 0.1, steps: int = 500) -> None:
    """Train until the loss is below the goal; the test fails if that does not happen."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        if value < goal:
            return
        value.backward()
        optimizer.step()
    pytest.fail(f"{value.item():.2f} nats left")


def all_move(model: nn.Module, loss: Tensor) -> None:
    """Every parameter has a finite gradient that is not zero."""
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or not parameter.numel(), name


def right_gradients(module: nn.Module, *inputs: Tensor) -> None:
    """The gradient to every parameter is that of finite differences; needs float64."""
    names, values = zip(*module.named_parameters(), strict=True)

    def run(*changed: Tensor) -> Tensor:
        return functional_call(module, dict(zip(names, changed, strict=True)), inputs)

    copies = tuple(each.detach().clone().requires_grad_() for each in values)
    assert torch.autograd.gradcheck(run, copies, fast_mode=True)
