"""The sampler step that keeps the output within a constraint."""

import copy

from torch import Tensor

from clearhead.core.registry import Choice
from clearhead.generate.sampling.base import STEPS, Context, Step, forbid
from clearhead.generate.sampling.constraints import CONSTRAINTS


@STEPS.register("constraint")
class Constrained(Step):
    """Forbid every token that the constraint does not allow; option: value, the constraint."""

    order = 70

    def __init__(self, context: Context, *, value: Choice) -> None:
        super().__init__(context)
        self.matcher = CONSTRAINTS.build(value).matcher(context)

    def apply(self, logits: Tensor) -> Tensor:
        return forbid(logits, ~self.matcher.allowed().to(logits.device))

    def advance(self, token: int) -> None:
        self.matcher.advance(token)

    def fork(self) -> "Constrained":
        other = copy.copy(self)
        other.matcher = self.matcher.fork()
        return other
