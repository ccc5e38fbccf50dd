"""The doorway of the position family: three places where a scheme may act, none of them used by default."""

from torch import Tensor, nn

from clearhead.core.registry import Registry


class Position(nn.Module):
    """A position scheme; one instance serves a whole stack. Wiring: d_model, heads, d_head, length.

    A scheme overrides what it needs of `add` (once, on the embeddings), `rotate` (in each self-attention, on
    queries and keys) and `bias` (in each self-attention, on the scores).
    """

    limit: int | None = None  # the longest sequence in tokens, if the scheme has one

    def __init__(self, d_model: int, heads: int, d_head: int, length: int) -> None:
        super().__init__()

    def add(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """Embeddings (batch, length, d_model), positions (batch or 1, length) int64 -> embeddings."""
        return embedded

    def rotate(self, states: Tensor, positions: Tensor) -> Tensor:
        """Queries or keys (batch, heads, length, d_head), positions (batch or 1, length) -> the same shape."""
        return states

    def bias(self, queries: Tensor, keys: Tensor) -> Tensor | None:
        """Positions of queries (batch or 1, queries) and keys -> (batch or 1, heads, queries, keys) or None."""
        return None


POSITIONS: Registry[Position] = Registry("position")


@POSITIONS.register("none")
class NoPosition(Position):
    """No positions: a causal model can still tell order from its mask (Haviv et al., 2022, arXiv:2203.16634)."""
