"""Locally typical sampling: tokens as surprising as the model expects (Meister et al., 2023, arXiv:2202.00666)."""

import torch
from torch import Tensor

from clearhead.generate.sampling.base import STEPS, Context, Step, forbid
from clearhead.generate.sampling.ranking import bar


@STEPS.register("typical")
class Typical(Step):
    """Keep the tokens whose surprise is nearest to the entropy, until they hold at least `value` of the probability."""

    order = 120
    samples = True

    def __init__(self, context: Context, *, value: float) -> None:
        super().__init__(context)
        self.value = value

    def apply(self, logits: Tensor) -> Tensor:
        surprise = -logits.log_softmax(dim=0)  # (vocab,) nats
        probabilities = (-surprise).exp()
        entropy = torch.nansum(probabilities * surprise)  # a forbidden token has 0 times infinity
        nearness = -(surprise - entropy).abs()
        return forbid(logits, nearness < bar(nearness, probabilities, self.value))
