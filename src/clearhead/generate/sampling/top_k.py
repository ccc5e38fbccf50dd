"""Top-k: only the k most probable tokens (Fan et al., 2018, arXiv:1805.04833, section 5.3)."""

from torch import Tensor

from clearhead.generate.sampling.base import STEPS, Context, Step, forbid


@STEPS.register("top_k")
class TopK(Step):
    """Keep the `value` largest logits, and what equals the smallest of them."""

    order = 90
    samples = True

    def __init__(self, context: Context, *, value: int) -> None:
        super().__init__(context)
        self.value = min(value, context.vocab)

    def apply(self, logits: Tensor) -> Tensor:
        return forbid(logits, logits < logits.topk(self.value).values[-1])
