"""What W_Q, W_K and W_V are before training: each matrix by itself, however a kind of projections stores it."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from clearhead.core.registry import Registry

Positive = Annotated[float, Field(gt=0.0)]


class Initialisation:
    """The doorway of the family. A kind is built from its options alone."""

    def __call__(self, weight: Tensor) -> None:
        """Fill one matrix (features, d_model) in place; gradients are off."""
        raise NotImplementedError


INITIALISATIONS: Registry[Initialisation] = Registry("qkv_initialisation")


@INITIALISATIONS.register("standard")
class Standard(Initialisation):
    """As a kind of projections makes itself: Glorot's over each tensor it stores, so `fused` counts as one matrix.

    The three row blocks of one matrix then start sqrt(2) times smaller than three matrices would, as in torch.
    """

    def __call__(self, weight: Tensor) -> None:
        """It is done already."""


@INITIALISATIONS.register("glorot")
class Glorot(Initialisation):
    """Uniform with variance 2 gain^2 / (inputs + outputs) (Glorot and Bengio, 2010), of each matrix by itself."""

    def __init__(self, *, gain: Positive = 1.0) -> None:
        self.gain = gain

    def __call__(self, weight: Tensor) -> None:
        nn.init.xavier_uniform_(weight, gain=self.gain)


@INITIALISATIONS.register("normal")
class Normal(Initialisation):
    """Normal with one deviation for all widths (Radford et al., 2019; Devlin et al., 2018, arXiv:1810.04805).

    Args:
        deviation: the paper's 0.02; null = d_model^-0.5, so that features keep their variance (LeCun et al., 1998).
    """

    def __init__(self, *, deviation: Positive | None = 0.02) -> None:
        self.deviation = deviation

    def __call__(self, weight: Tensor) -> None:
        nn.init.normal_(weight, std=weight.shape[1] ** -0.5 if self.deviation is None else self.deviation)


@INITIALISATIONS.register("orthogonal")
class Orthogonal(Initialisation):
    """Rows, or columns if they are fewer, of length `gain` that stand upright on each other.

    Saxe et al., 2013, arXiv:1312.6120.
    """

    def __init__(self, *, gain: Positive = 1.0) -> None:
        self.gain = gain

    def __call__(self, weight: Tensor) -> None:
        nn.init.orthogonal_(weight, gain=self.gain)


@INITIALISATIONS.register("identity")
class Identity(Initialisation):
    """Ones on the diagonal (Zhao et al., 2021, arXiv:2110.12661): attention starts as that of the stream itself.

    Args:
        scale: what stands on the diagonal.
    """

    def __init__(self, *, scale: Positive = 1.0) -> None:
        self.scale = scale

    def __call__(self, weight: Tensor) -> None:
        weight.zero_().fill_diagonal_(self.scale)
