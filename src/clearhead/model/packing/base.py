"""The doorway of the products: a linear map whose weights do not change any more."""

from typing import ClassVar

from torch import Tensor, nn

from clearhead.core.registry import Registry
from clearhead.model.packing.compiled import Compiled


class Product(nn.Module):
    """hidden W^T + bias. Wiring: weight (outputs, inputs), bias (outputs,) or None; without gradients."""

    exact: ClassVar[bool] = True  # the same numbers, up to the order in which sums are rounded
    compiled: Compiled | None = None  # how the compiled step does it, if it can

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape  # as a Linear tells them

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        raise NotImplementedError


PRODUCTS: Registry[Product] = Registry("product")
