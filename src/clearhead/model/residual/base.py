"""The doorway of the residual family: join a sub-layer's output to the stream, norm and dropout in their places."""

from collections.abc import Callable

from torch import Tensor, nn

from clearhead.core.registry import Registry
from clearhead.model.dropout import Dropout

Norm = Callable[[], nn.Module]


class Residual(nn.Module):
    """Wiring: a function that makes a norm, and the dropout rate of the sub-layer's output."""

    def __init__(self, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.norm = norm()
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """(batch, length, d_model) and a map of that shape to itself -> the new stream."""
        raise NotImplementedError

    @staticmethod
    def final(norm: Norm) -> nn.Module:
        """What a stack of such residuals applies after its last block; by default nothing."""
        return nn.Identity()


RESIDUALS: Registry[Residual] = Registry("residual")
