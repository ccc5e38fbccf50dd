"""The doorway of the residual family: join a sub-layer's output to the stream, norm and dropout in their places."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from clearhead.core.registry import Registry
from clearhead.model.dropout import Dropout
from clearhead.model.fused import can_join, join
from clearhead.model.norm import NoNorm, Norm
from clearhead.model.norm.layernorm import LayerNorm
from clearhead.model.norm.rmsnorm import RMSNorm

NewNorm = Callable[[], Norm]
Sublayer = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How deep the model is, and on which side a residual stands."""

    encoder_layers: int
    decoder_layers: int
    decodes: bool


class Residual(nn.Module):
    """Wiring: a function that makes a norm, the dropout rate of the sub-layer's output, the depth of the model."""

    def __init__(self, norm: NewNorm, dropout: float, depth: Depth) -> None:
        super().__init__()
        self.norm = norm()
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, sublayer: Sublayer, valid: Tensor | None = None) -> Tensor:
        """Join.

        Args:
            hidden: (batch, length, d_model).
            sublayer: a map of that shape to itself.
            valid: (batch, length) bool, False for padding; for norms that look at several tokens.

        Returns:
            The new stream, the shape of hidden.
        """
        raise NotImplementedError

    def added(self, hidden: Tensor, update: Tensor) -> Tensor:
        """hidden + dropout(update)."""
        drops = self.dropout.training and self.dropout.rate
        if drops and not watched(self.dropout) and can_join(hidden, update):
            return join(hidden, update, self.dropout.rate)
        joined: Tensor = hidden + self.dropout(update)
        return joined

    def normed(self, hidden: Tensor, update: Tensor, valid: Tensor | None) -> Tensor:
        """norm(hidden + dropout(update)); see `forward`."""
        norm = self.norm
        if self.training and type(norm) in (LayerNorm, RMSNorm) and not watched(norm, self.dropout):
            assert isinstance(norm, LayerNorm | RMSNorm)
            bias = norm.bias if isinstance(norm, LayerNorm) else None
            whole = bias is not None or isinstance(norm, RMSNorm)  # to `join` no bias means another norm
            if whole and can_join(hidden, update, *norm.parameters()):
                rate = self.dropout.rate if self.dropout.training else 0.0
                return join(hidden, update, rate, norm.epsilon, norm.weight, bias)
        joined: Tensor = self.norm(hidden + self.dropout(update), valid)
        return joined

    def initialise(self, sublayer: nn.Module) -> None:
        """Change the initial weights of the sub-layer, if the scheme wants it; by default nothing."""

    @staticmethod
    def final(norm: NewNorm) -> Norm:
        """What a stack of such residuals applies after its last block; by default nothing."""
        return NoNorm(0)


def watched(*modules: nn.Module) -> bool:
    """Whether somebody looks at what goes into these modules or comes out of them, so that none may be passed by."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(each, name) for each in modules for name in hooks)


RESIDUALS: Registry[Residual] = Registry("residual")
