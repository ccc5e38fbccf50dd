"""One block for all three kinds of Transformer.

hidden ─ attention ─ [cross-attention] ─ feed-forward ─▶ hidden        each inside its residual connection
"""

from collections.abc import Callable

from torch import Tensor, nn

from clearhead.model.attention.multihead import CrossAttention, Memory, SelfAttention
from clearhead.model.cache import LayerCache
from clearhead.model.mask import AttentionMask


class Skip(nn.Module):
    """The residual connection of a sub-layer that a model does not have: the stream passes unchanged."""

    def forward(self, hidden: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return hidden


class NoCross(nn.Module):
    """The cross-attention of a block that reads no other sequence; `Skip` never calls it."""


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward network, each joined to the stream by its residual."""

    def __init__(
        self,
        attention: SelfAttention,
        cross: CrossAttention | None,
        feedforward: nn.Module,
        residual: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.attention, self.cross, self.feedforward = attention, cross or NoCross(), feedforward
        self.attention_residual = residual()
        self.cross_residual = Skip() if cross is None else residual()
        self.feedforward_residual = residual()

    def forward(
        self, hidden: Tensor, positions: Tensor, mask: AttentionMask, memory: Memory | None, cache: LayerCache
    ) -> Tensor:
        """(batch, length, d_model) -> the same shape; `positions`: (batch or 1, length) int64."""
        hidden = self.attention_residual(hidden, lambda x: self.attention(x, positions, mask, cache))
        hidden = self.cross_residual(hidden, lambda x: self.cross(x, memory, cache))
        joined: Tensor = self.feedforward_residual(hidden, self.feedforward)
        return joined
