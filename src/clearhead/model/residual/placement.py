"""Norm after the sum, as in the 2017 paper, or before the sub-layer (Xiong et al., 2020, arXiv:2002.04745)."""

from collections.abc import Callable

from torch import Tensor, nn

from clearhead.model.residual.base import RESIDUALS, Norm, Residual


@RESIDUALS.register("post")
class PostNorm(Residual):
    """norm(hidden + dropout(sublayer(hidden))), as in Vaswani et al., 2017, section 5.4."""

    def forward(self, hidden: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        joined: Tensor = self.norm(hidden + self.dropout(sublayer(hidden)))
        return joined


@RESIDUALS.register("pre")
class PreNorm(Residual):
    """hidden + dropout(sublayer(norm(hidden))); the stack needs one more norm at its end."""

    def forward(self, hidden: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        joined: Tensor = hidden + self.dropout(sublayer(self.norm(hidden)))
        return joined

    @staticmethod
    def final(norm: Norm) -> nn.Module:
        return norm()
