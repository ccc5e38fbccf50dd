"""The doorway of the residual family: join a sub-layer's output to the stream, with norm and dropout in their places."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from clearhead.core.registry import Registry

Norm = Callable[[], nn.Module]


class Residual(Protocol):
    """Wiring: a function that makes a norm, and the dropout rate of the sub-layer's output."""

    def __call__(self, hidden: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """(batch, length, d_model) and a map of that shape to itself -> the new stream."""

    @staticmethod
    def last(norm: Norm) -> nn.Module:
        """What the stack applies after its last block."""


RESIDUALS: Registry[nn.Module] = Registry("residual")
