"""Feed-forward networks with a gate (Shazeer, 2020, arXiv:2002.05202)."""

import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.model.dropout import Dropout
from clearhead.model.feedforward.base import FEEDFORWARDS


class Gated(nn.Module):
    """outer(dropout(activation(gate(hidden)) * inner(hidden))): three matrices, so use about 2/3 of the plain d_ff."""

    def __init__(self, d_model: int, d_ff: int, dropout: float, bias: bool) -> None:  # noqa: FBT001 (wiring)
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=bias)
        self.inner = nn.Linear(d_model, d_ff, bias=bias)
        self.outer = nn.Linear(d_ff, d_model, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        mapped: Tensor = self.outer(self.dropout(self.activation(self.gate(hidden)) * self.inner(hidden)))
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
