"""Weights as numbers of 32 bits: up to some hundred rows go through the compiled step, more through PyTorch."""

import torch.nn.functional as F
from torch import Tensor

from clearhead.model.packing.base import PRODUCTS, Product
from clearhead.model.packing.compiled import Compiled


@PRODUCTS.register("float32")
class Plain(Product):
    """The same numbers: where PyTorch has them, and a second time as the compiled step reads them fastest."""

    weight: Tensor  # (outputs, inputs)
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        self.register_buffer("weight", weight.detach())
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.compiled: Compiled = Compiled(weight, bias, whole=False, most=512)

    def forward(self, hidden: Tensor) -> Tensor:
        if self.compiled.takes(hidden):
            return self.compiled(hidden)
        return F.linear(hidden, self.weight, self.bias)
