"""A penalty of tokens that the prompt or the output has (Keskar et al., 2019, arXiv:1909.05858, section 4.1)."""

import torch
from torch import Tensor

from clearhead.generate.sampling.base import STEPS, Context
from clearhead.generate.sampling.counting import Counting


@STEPS.register("repetition_penalty")
class RepetitionPenalty(Counting):
    """Divide a positive logit by `value`, multiply a negative one; the paper divides both, which would raise these."""

    order = 20

    def __init__(self, context: Context, *, value: float) -> None:
        super().__init__(context, value=value)
        self.counts[list(context.prompt)] = 1

    def penalised(self, logits: Tensor) -> Tensor:
        lowered = torch.where(logits > 0, logits / self.value, logits * self.value)
        return torch.where(self.counts > 0, lowered, logits)
