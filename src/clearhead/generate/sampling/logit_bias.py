"""A constant added to the logits of named tokens."""

from collections.abc import Mapping

import torch
from torch import Tensor

from clearhead.generate.sampling.base import STEPS, Context, Step


@STEPS.register("logit_bias")
class LogitBias(Step):
    """Add to the logit of each named token; option: value, token -> bias."""

    order = 10

    def __init__(self, context: Context, *, value: Mapping[int, float]) -> None:
        super().__init__(context)
        context.check(list(value), "logit_bias")
        self.bias = torch.zeros(context.vocab)  # (vocab,)
        self.bias[list(value)] = torch.tensor(list(value.values()), dtype=self.bias.dtype)

    def apply(self, logits: Tensor) -> Tensor:
        self.bias = self.bias.to(logits.device)
        return logits + self.bias
