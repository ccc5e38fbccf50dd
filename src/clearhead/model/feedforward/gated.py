"""Feed-forward networks with a gate (Shazeer, 2020, arXiv:2002.05202)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from clearhead.model.dropout import Dropout
from clearhead.model.feedforward.base import FEEDFORWARDS, FeedForward


class Gated(FeedForward):
    """outer(dropout(activation(gate(hidden)) * inner(hidden))): three matrices where the plain network has two.

    Args:
        two_thirds: be 2/3 as wide as d_ff, so that three matrices have the parameters of two.
        multiple: round the width up to a multiple of this.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        dropout: float,
        bias: bool,  # noqa: FBT001 (wiring)
        *,
        two_thirds: bool = False,
        multiple: Annotated[int, Field(gt=0)] = 1,
    ) -> None:
        super().__init__(d_model, d_ff, dropout, bias)
        width = -(-(2 * d_ff // 3 if two_thirds else d_ff) // multiple) * multiple
        self.gate = nn.Linear(d_model, width, bias=bias)
        self.inner = nn.Linear(d_model, width, bias=bias)
        self.outer = nn.Linear(width, d_model, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        gate, inner = self.activation(self.gate(hidden)), self.inner(hidden)
        gated = gate * inner if torch.is_grad_enabled() else gate.mul_(inner)  # (batch, length, width)
        mapped: Tensor = self.outer(self.dropout(gated))
        return mapped

    def activation(self, gate: Tensor) -> Tensor:
        """(batch, length, d_ff) -> the same shape."""
        raise NotImplementedError


@FEEDFORWARDS.register("swiglu")
class Swiglu(Gated):
    """A gate with SiLU; Llama."""

    def activation(self, gate: Tensor) -> Tensor:
        return F.silu(gate)


@FEEDFORWARDS.register("geglu")
class Geglu(Gated):
    """A gate with GELU."""

    def activation(self, gate: Tensor) -> Tensor:
        return F.gelu(gate)


@FEEDFORWARDS.register("geglu_tanh")
class GegluTanh(Gated):
    """A gate with GELU by its approximation with a hyperbolic tangent; T5 since version 1.1."""

    def activation(self, gate: Tensor) -> Tensor:
        return F.gelu(gate, approximate="tanh")
