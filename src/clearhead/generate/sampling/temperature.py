"""Temperature: how far from the most probable token sampling may stray."""

from torch import Tensor

from clearhead.generate.sampling.base import STEPS, Context, Step


@STEPS.register("temperature")
class Temperature(Step):
    """Divide the logits by `value`; below 1 the probable becomes more probable."""

    order = 80
    samples = True

    def __init__(self, context: Context, *, value: float) -> None:
        super().__init__(context)
        self.value = value

    def apply(self, logits: Tensor) -> Tensor:
        return (logits - logits.max()) / self.value  # the largest is 0, so that no temperature overflows
