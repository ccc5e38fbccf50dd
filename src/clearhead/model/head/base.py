"""The doorway of the head family: from the last hidden states to scores of words or labels.

hidden ─ transform ─▶ features ─ matrix, bias ─▶ logits
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.core.registry import Registry
from clearhead.model.norm import Norm


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a model offers its head."""

    d_model: int
    vocab: int  # words of the last stack
    matrix: Callable[[], nn.Parameter]  # the output matrix (vocab, width), tied to an embedding or new
    norm: Callable[[int], Norm]  # a new norm over so many features
    dropout: float  # rate


class Head(nn.Module):
    """A map to features and a linear map to scores. Wiring: the surroundings.

    The two are apart so that a loss can take features, matrix and bias and never build the logits. Training code reads
    `transform`, `matrix` and `bias`, everything else calls the head.
    """

    linear: ClassVar[bool] = True  # scores are a linear map of features; False = only `forward` tells them
    matrix: nn.Parameter  # (vocab or labels, width)
    bias: nn.Parameter | None  # (vocab or labels,)

    def __init__(self, around: Surroundings) -> None:
        super().__init__()

    def finish(self, matrix: nn.Parameter, *, bias: bool) -> None:
        """Set the last linear map; `bias` adds one that starts at zero."""
        self.matrix = matrix
        self.bias = nn.Parameter(torch.zeros(len(matrix))) if bias else None

    def transform(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """Features that the last linear map reads.

        Args:
            hidden: (..., d_model); for a head that pools, (batch, length, d_model).
            valid: (batch, length) bool, False for padding; None = no padding. Only heads that pool look at it.

        Returns:
            (..., width); from a head that pools, (batch, width).
        """
        return hidden

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """Unnormalised log-probabilities (..., vocab) or (batch, labels); arguments as in `transform`."""
        return F.linear(self.transform(hidden, valid), self.matrix, self.bias)


HEADS: Registry[Head] = Registry("head")


def new_matrix(labels: int, width: int) -> nn.Parameter:
    """A linear map to labels, (labels, width), by Glorot and Bengio, 2010."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(labels, width)))


def new_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map with bias, by Glorot and Bengio, 2010."""
    linear = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
