"""Weights column by column: what a product of few rows reads fastest on a CPU (docs/log.md)."""

import torch.nn.functional as F
from torch import Tensor

from clearhead.model.packing.base import PRODUCTS, Product


@PRODUCTS.register("columns")
class Columns(Product):
    """The same numbers in another order of memory."""

    weight: Tensor  # (outputs, inputs), its columns side by side
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        self.register_buffer("weight", weight.detach().t().contiguous().t())
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.weight, self.bias)
