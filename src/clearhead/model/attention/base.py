"""The doorway of the attention family: queries, keys, values, mask and bias in; mixed values out."""

from torch import Tensor, nn

from clearhead.core.registry import Registry
from clearhead.model.mask import AttentionMask


class Kernel(nn.Module):
    """One way to mix values by queries and keys. Wiring: heads, d_head, dropout rate of the weights."""

    def __init__(self, heads: int, d_head: int, dropout: float) -> None:
        super().__init__()

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, bias: Tensor | None) -> Tensor:
        """Mix the values.

        Args:
            query: (batch, heads, queries, d_head).
            key, value: (batch, kv_heads, keys, d_head); kv_heads divides heads.
            mask: which keys each query sees.
            bias: (batch or 1, heads, queries, keys) added to the scores, or None.

        Returns:
            (batch, heads, queries, d_head); the zero vector for a query that sees no key.
        """
        raise NotImplementedError

    def weights(self, query: Tensor, key: Tensor, mask: AttentionMask, bias: Tensor | None) -> Tensor:
        """The attention weights (batch, heads, queries, keys) of the same inputs, without dropout."""
        raise NotImplementedError


ATTENTIONS: Registry[Kernel] = Registry("attention")


def grouped(states: Tensor, heads: int) -> Tensor:
    """Repeat each key/value head for its group of query heads: (batch, kv_heads, ...) -> (batch, heads, ...)."""
    return states if states.shape[1] == heads else states.repeat_interleave(heads // states.shape[1], dim=1)
