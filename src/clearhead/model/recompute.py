"""Activation recomputation (Chen et al., 2016, arXiv:1604.06174): less memory for about a third more computing.

    recompute(model)  # once, before training; the gradients stay the same

A block then keeps only its input for the backward pass and computes everything inside it once more when its turn
comes. It is applied to a model, not written in it: no block knows of it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clearhead.model.attention.multihead import Memory
from clearhead.model.block import Block
from clearhead.model.cache import LayerCache
from clearhead.model.forward_pass import Pass


class Recomputed:
    """The forward of a block that forgets its intermediate results. Dropout draws the same mask both times."""

    def __init__(self, forward: Callable[..., Tensor]) -> None:
        self.forward = forward

    def __call__(self, hidden: Tensor, now: Pass, memory: Memory | None, cache: LayerCache) -> Tensor:
        if not torch.is_grad_enabled():
            return self.forward(hidden, now, memory, cache)
        output: Tensor = checkpoint(self._alone, hidden, now, memory, cache, use_reentrant=False)
        return output

    def _alone(self, hidden: Tensor, now: Pass, memory: Memory | None, cache: LayerCache) -> Tensor:
        """The block computes for itself what blocks share: it must find the same both times."""
        return self.forward(hidden, now.anew(), memory, cache)


def recompute(model: nn.Module) -> None:
    """Let every block of a model recompute its activations in the backward pass; a second call changes nothing."""
    for module in model.modules():
        if isinstance(module, Block) and not isinstance(module.forward, Recomputed):
            module.forward = Recomputed(module.forward)  # type: ignore[method-assign]
