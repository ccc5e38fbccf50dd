"""Min-p: a bar that the most probable token sets (Nguyen et al., 2024, arXiv:2407.01082)."""

import math

from torch import Tensor

from clearhead.generate.sampling.base import STEPS, Context, Step, forbid


@STEPS.register("min_p")
class MinP(Step):
    """Keep tokens that are at least `value` times as probable as the most probable one."""

    order = 110
    samples = True

    def __init__(self, context: Context, *, value: float) -> None:
        super().__init__(context)
        self.distance = math.log(value)  # nats, below the largest logit

    def apply(self, logits: Tensor) -> Tensor:
        return forbid(logits, logits < logits.max() + self.distance)
