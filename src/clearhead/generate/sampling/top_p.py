"""Top-p, the nucleus: the fewest tokens that hold a share (Holtzman et al., 2020, arXiv:1904.09751, section 3.1)."""

from torch import Tensor

from clearhead.generate.sampling.base import STEPS, Context, Step, forbid
from clearhead.generate.sampling.ranking import bar


@STEPS.register("top_p")
class TopP(Step):
    """Keep the most probable tokens until they hold at least `value` of the probability."""

    order = 100
    samples = True

    def __init__(self, context: Context, *, value: float) -> None:
        super().__init__(context)
        self.value = value

    def apply(self, logits: Tensor) -> Tensor:
        return forbid(logits, logits < bar(logits, logits.softmax(dim=0), self.value))
