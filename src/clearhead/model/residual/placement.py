"""Norm after the sum, as in the 2017 paper, or before the sub-layer (Xiong et al., 2020, arXiv:2002.04745)."""

from collections.abc import Callable

from torch import Tensor, nn

from clearhead.model.dropout import Dropout
from clearhead.model.residual.base import RESIDUALS, Norm


@RESIDUALS.register("post")
class PostNorm(nn.Module):
    """norm(hidden + dropout(sublayer(hidden))), as in Vaswani et al., 2017, section 5.4."""

    def __init__(self, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.norm = norm()
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return self.norm(hidden + self.dropout(sublayer(hidden)))

    @staticmethod
    def last(norm: Norm) -> nn.Module:
        return nn.Identity()


@RESIDUALS.register("pre")
class PreNorm(nn.Module):
    """hidden + dropout(sublayer(norm(hidden))); the stack needs one more norm at its end."""

    def __init__(self, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.norm = norm()
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return hidden + self.dropout(sublayer(self.norm(hidden)))

    @staticmethod
    def last(norm: Norm) -> nn.Module:
        return norm()
