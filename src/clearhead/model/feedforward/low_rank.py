"""Feed-forward networks with fewer parameters: matrices of low rank, or of separate blocks."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from clearhead.core.errors import ConfigError
from clearhead.model.activations import ACTIVATIONS, Activation
from clearhead.model.dropout import Dropout
from clearhead.model.feedforward.base import FEEDFORWARDS, FeedForward

Count = Annotated[int, Field(gt=0)]


class Factored(nn.Module):
    """A linear map through a narrow middle: rank x (inputs + outputs) weights."""

    def __init__(self, inputs: int, outputs: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        mapped: Tensor = self.up(self.down(hidden))
        return mapped

    @torch.no_grad()
    def approximate(self, dense: nn.Linear) -> None:
        """Become the nearest map of this rank to a dense one (Eckart and Young, 1936): its largest singular values."""
        left, values, right = torch.linalg.svd(dense.weight, full_matrices=False)
        rank = len(self.down.weight)
        self.down.weight.copy_(values[:rank, None].sqrt() * right[:rank])
        self.up.weight.copy_(left[:, :rank] * values[:rank].sqrt())
        if dense.bias is not None:
            self.up.bias.copy_(dense.bias)


@FEEDFORWARDS.register("low_rank")
class LowRank(FeedForward):
    """Two linear maps with an activation between them, each a product of two narrow matrices.

    Args:
        rank: width of the middles.
        activation: between the two maps.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        dropout: float,
        bias: bool,  # noqa: FBT001 (wiring)
        *,
        rank: Count = 8,
        activation: Activation = "relu",
    ) -> None:
        super().__init__(d_model, d_ff, dropout, bias)
        self.activation = activation
        self.inner = Factored(d_model, d_ff, rank, bias=bias)
        self.outer = Factored(d_ff, d_model, rank, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        mapped: Tensor = self.outer(self.dropout(ACTIVATIONS[self.activation](self.inner(hidden))))
        return mapped


class Blocks(nn.Module):
    """A linear map whose matrix has only blocks on its diagonal: group g of inputs leads to group g of outputs."""

    def __init__(self, inputs: int, outputs: int, groups: int, *, bias: bool) -> None:
        super().__init__()
        if inputs % groups or outputs % groups:
            found = f"{groups} groups, d_model and d_ff {inputs} and {outputs}"
            raise ConfigError("groups must divide d_model and d_ff", found=found)
        self.weight = nn.Parameter(torch.empty(groups, inputs // groups, outputs // groups))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        for each in self.weight:
            nn.init.xavier_uniform_(each)

    def forward(self, hidden: Tensor) -> Tensor:
        groups = hidden.view(*hidden.shape[:-1], *self.weight.shape[:2])  # (..., groups, inputs / groups)
        mapped = (groups[..., None, :] @ self.weight).flatten(-3)  # (..., outputs)
        return mapped if self.bias is None else mapped + self.bias.to(mapped.dtype)


@FEEDFORWARDS.register("grouped")
class Grouped(FeedForward):
    """Two block-diagonal maps, with inner units dealt out anew between them so that groups mix.

    Group convolution: Krizhevsky et al., 2012; shuffling: Zhang et al., 2018, arXiv:1707.01083.

    Args:
        groups: blocks of each matrix; it divides d_model and d_ff.
        activation: between the two maps.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        dropout: float,
        bias: bool,  # noqa: FBT001 (wiring)
        *,
        groups: Count = 2,
        activation: Activation = "relu",
    ) -> None:
        super().__init__(d_model, d_ff, dropout, bias)
        self.groups, self.activation = groups, activation
        self.inner = Blocks(d_model, d_ff, groups, bias=bias)
        self.outer = Blocks(d_ff, d_model, groups, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        inner: Tensor = self.dropout(ACTIVATIONS[self.activation](self.inner(hidden)))  # (batch, length, d_ff)
        shuffled = (
            inner.view(*inner.shape[:-1], self.groups, inner.shape[-1] // self.groups).transpose(-1, -2).flatten(-2)
        )
        mapped: Tensor = self.outer(shuffled)
        return mapped
