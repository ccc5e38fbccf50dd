"""One block for all three kinds of Transformer.

hidden ─ attention ─ [cross-attention] ─ feed-forward ─▶ hidden        each inside its residual connection
"""

from collections.abc import Callable

from torch import Tensor, nn

from clearhead.model.attention.multihead import CrossAttention, Memory
from clearhead.model.cache import LayerCache
from clearhead.model.feedforward import FeedForward
from clearhead.model.forward_pass import Pass
from clearhead.model.residual import Residual


class Skip(nn.Module):
    """The residual connection of a sub-layer that a model does not have: the stream passes unchanged."""

    def forward(self, hidden: Tensor, sublayer: Callable[[Tensor], Tensor], valid: Tensor | None) -> Tensor:
        return hidden

    def initialise(self, sublayer: nn.Module) -> None:
        """There is nothing to initialise."""


class NoCross(nn.Module):
    """The cross-attention of a block that reads no other sequence; `Skip` never calls it."""


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward network, each joined to the stream by its residual.

    What takes the place of self-attention is called as it is: with hidden states, the pass and a cache.
    """

    def __init__(
        self,
        attention: nn.Module,
        cross: CrossAttention | None,
        feedforward: FeedForward,
        residual: Callable[[], Residual],
    ) -> None:
        super().__init__()
        self.attention, self.cross, self.feedforward = attention, cross or NoCross(), feedforward
        self.attention_residual = residual()
        self.cross_residual: Residual | Skip = Skip() if cross is None else residual()
        self.feedforward_residual = residual()

    def forward(self, hidden: Tensor, now: Pass, memory: Memory | None, cache: LayerCache) -> Tensor:
        """(batch, length, d_model) -> the same shape."""
        valid = newest(now.mask.valid, hidden)
        hidden = self.attention_residual(hidden, lambda x: self.attention(x, now, cache), valid)
        hidden = self.cross_residual(hidden, lambda x: self.cross(x, memory, cache), valid)
        joined: Tensor = self.feedforward_residual(hidden, self.feedforward, valid)
        return joined

    def initialise(self) -> None:
        """Let each residual adapt the initial weights of its sub-layer."""
        self.attention_residual.initialise(self.attention)
        self.cross_residual.initialise(self.cross)
        self.feedforward_residual.initialise(self.feedforward)


def newest(valid: Tensor | None, hidden: Tensor) -> Tensor | None:
    """Of the padding of all tokens so far, (batch, keys), that of the given ones, (batch, length)."""
    return None if valid is None else valid[:, valid.shape[1] - hidden.shape[1] :]
