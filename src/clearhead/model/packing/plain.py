"""Weights as they are: few rows go through the compiled step, many through PyTorch."""

import torch.nn.functional as F
from torch import Tensor

from clearhead.model.packing.base import PRODUCTS, Product
from clearhead.model.packing.compiled import Compiled


@PRODUCTS.register("float32")
class Plain(Product):
    """The same numbers in the same memory."""

    weight: Tensor  # (outputs, inputs)
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        self.register_buffer("weight", weight.detach())
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.compiled = Compiled(weight, bias, whole=False)

    def forward(self, hidden: Tensor) -> Tensor:
        if self.compiled.takes(hidden):
            return self.compiled(hidden)
        return F.linear(hidden, self.weight, self.bias)
