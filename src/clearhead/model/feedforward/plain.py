"""Two linear maps with an activation between them (Vaswani et al., 2017, section 3.3)."""

import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.model.dropout import Dropout
from clearhead.model.feedforward.base import FEEDFORWARDS, FeedForward


class Plain(FeedForward):
    """outer(dropout(activation(inner(hidden)))); wiring: d_model, d_ff, dropout rate, bias."""

    def __init__(self, d_model: int, d_ff: int, dropout: float, bias: bool) -> None:  # noqa: FBT001 (wiring)
        super().__init__(d_model, d_ff, dropout, bias)
        self.inner = nn.Linear(d_model, d_ff, bias=bias)
        self.outer = nn.Linear(d_ff, d_model, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        mapped: Tensor = self.outer(self.dropout(self.activation(self.inner(hidden))))
        return mapped

    def activation(self, inner: Tensor) -> Tensor:
        """(batch, length, d_ff) -> the same shape."""
        raise NotImplementedError


@FEEDFORWARDS.register("relu")
class Relu(Plain):
    """max(0, x), as in the paper."""

    def activation(self, inner: Tensor) -> Tensor:
        return F.relu(inner)


@FEEDFORWARDS.register("gelu")
class Gelu(Plain):
    """x times the normal distribution function of x (Hendrycks and Gimpel, 2016, arXiv:1606.08415); BERT."""

    def activation(self, inner: Tensor) -> Tensor:
        return F.gelu(inner)


@FEEDFORWARDS.register("gelu_tanh")
class GeluTanh(Plain):
    """GELU by its approximation with a hyperbolic tangent; GPT-2."""

    def activation(self, inner: Tensor) -> Tensor:
        return F.gelu(inner, approximate="tanh")


@FEEDFORWARDS.register("silu")
class Silu(Plain):
    """x times the logistic function of x (Elfwing et al., 2017, arXiv:1702.03118)."""

    def activation(self, inner: Tensor) -> Tensor:
        return F.silu(inner)


@FEEDFORWARDS.register("linear")
class Linear(Plain):
    """No activation: two linear maps that could be one; what an activation is good for shows without it."""

    def activation(self, inner: Tensor) -> Tensor:
        return inner
