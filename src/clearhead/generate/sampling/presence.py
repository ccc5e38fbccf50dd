"""A penalty of tokens that the output has."""

import torch
from torch import Tensor

from clearhead.generate.sampling.base import STEPS
from clearhead.generate.sampling.counting import Counting


@STEPS.register("presence_penalty")
class PresencePenalty(Counting):
    """Subtract `value` once from every token that the output has; the prompt does not count."""

    order = 40

    def penalised(self, logits: Tensor) -> Tensor:
        return torch.sub(logits, self.counts.clamp(max=1), alpha=self.value)
