"""The doorway of the norm family: hidden states and their padding in, normalised hidden states out."""

from typing import ClassVar

from torch import Tensor, nn

from clearhead.core.registry import Registry


class Norm(nn.Module):
    """A normalisation of hidden states. Wiring: features, the width of a hidden state."""

    decodes: ClassVar[bool] = True  # may serve a decoder, which is given its tokens one by one
    across_tokens: ClassVar[bool] = False  # looks at more than one token, so padding must be told

    def __init__(self, features: int) -> None:
        super().__init__()

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalise.

        Args:
            hidden: (batch, length, features), or (tokens, features).
            valid: bool, the shape of hidden without features, False for padding; None = no padding. Only norms that
                look at more than one token need it.

        Returns:
            The shape of hidden.
        """
        raise NotImplementedError


NORMS: Registry[Norm] = Registry("norm")


@NORMS.register("none")
class NoNorm(Norm):
    """No normalisation; what a norm is good for shows without it."""

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        return hidden
