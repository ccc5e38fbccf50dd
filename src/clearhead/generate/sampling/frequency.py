"""A penalty of tokens in proportion to how often the output has them."""

import torch
from torch import Tensor

from clearhead.generate.sampling.base import STEPS
from clearhead.generate.sampling.counting import Counting


@STEPS.register("frequency_penalty")
class FrequencyPenalty(Counting):
    """Subtract `value` for each time that the output has the token; the prompt does not count."""

    order = 30

    def penalised(self, logits: Tensor) -> Tensor:
        return torch.sub(logits, self.counts, alpha=self.value)
