"""Where the norm stands: after the sum as in the 2017 paper, before the sub-layer, on both sides of it, or alone."""

from torch import Tensor

from clearhead.model.norm import Norm
from clearhead.model.residual.base import RESIDUALS, Depth, NewNorm, Residual, Sublayer


@RESIDUALS.register("post")
class PostNorm(Residual):
    """norm(hidden + dropout(sublayer(hidden))), as in Vaswani et al., 2017, section 5.4."""

    def forward(self, hidden: Tensor, sublayer: Sublayer, valid: Tensor | None = None) -> Tensor:
        return self.normed(hidden, sublayer(hidden), valid)


@RESIDUALS.register("pre")
class PreNorm(Residual):
    """hidden + dropout(sublayer(norm(hidden))); the stack needs one more norm at its end.

    Xiong et al., 2020, arXiv:2002.04745.
    """

    def forward(self, hidden: Tensor, sublayer: Sublayer, valid: Tensor | None = None) -> Tensor:
        return self.added(hidden, sublayer(self.norm(hidden, valid)))

    @staticmethod
    def final(norm: NewNorm) -> Norm:
        return norm()


@RESIDUALS.register("sandwich")
class Sandwich(PreNorm):
    """hidden + norm(dropout(sublayer(norm(hidden)))), two norms (Ding et al., 2021, arXiv:2105.13290, section 2.4)."""

    def __init__(self, norm: NewNorm, dropout: float, depth: Depth) -> None:
        super().__init__(norm, dropout, depth)
        self.after = norm()

    def forward(self, hidden: Tensor, sublayer: Sublayer, valid: Tensor | None = None) -> Tensor:
        joined: Tensor = hidden + self.after(self.dropout(sublayer(self.norm(hidden, valid))), valid)
        return joined


@RESIDUALS.register("none")
class NoResidual(Residual):
    """norm(dropout(sublayer(hidden))): the block of the 2017 paper without its shortcut."""

    def forward(self, hidden: Tensor, sublayer: Sublayer, valid: Tensor | None = None) -> Tensor:
        mapped: Tensor = self.norm(self.dropout(sublayer(hidden)), valid)
        return mapped
