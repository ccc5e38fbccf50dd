"""Weights and inputs as int8, sums as int32 (Jacob et al., 2018, arXiv:1712.05877, section 2), on a CPU.

Each output of the weights and each token of the input has a scale of its own (Dettmers et al., 2022, arXiv:2208.07339,
section 2.2). So no token depends on its neighbours, and since whole numbers are added, not even on their number.
"""

from typing import ClassVar

import torch
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.model.packing.base import PRODUCTS, Product
from clearhead.model.packing.compiled import Compiled
from clearhead.model.packing.rounding import rounded


@PRODUCTS.register("int8")
class Int8(Product):
    """A quarter of the memory of float32; errors of about one percent of the largest output.

    Raises:
        ModelError: the weights are not on a CPU.
    """

    exact: ClassVar[bool] = False
    weight: Tensor  # (outputs, inputs) int8
    scale: Tensor  # (outputs,)
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        if weight.device.type != "cpu":
            raise ModelError("int8 products are for a CPU", found=weight.device, remedy="move the model to the CPU")
        whole, scale = rounded(weight.detach())
        self.register_buffer("weight", whole)
        self.register_buffer("scale", scale[:, 0])
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.compiled: Compiled = Compiled(weight, bias, whole=True, most=1024)

    def forward(self, hidden: Tensor) -> Tensor:
        if self.compiled.takes(hidden):
            return self.compiled(hidden)
        whole, scale = rounded(hidden.flatten(0, -2))  # (tokens, inputs), (tokens, 1)
        sums: Tensor = torch._int_mm(whole, self.weight.t()) * scale  # (tokens, outputs)
        sums = sums * self.scale if self.bias is None else torch.addcmul(self.bias, sums, self.scale)
        return sums.view(*hidden.shape[:-1], -1)  # (..., outputs)
