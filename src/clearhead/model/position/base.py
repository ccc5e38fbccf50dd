"""The doorway of the position family: three places where a scheme may act, none of them used by default."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor, nn

from clearhead.core.registry import Registry


@dataclass(frozen=True, eq=False)
class Relation:
    """What a scheme says about pairs of a query and a key; None = nothing.

    Args:
        bias: (batch or 1, heads, queries, keys), added to the scores after their scaling.
        values: (batch or 1, queries, keys, d_head), added to the value of each pair, the same for all heads.
    """

    bias: Tensor | None = None
    values: Tensor | None = None


UNRELATED = Relation()


class LayerPosition(Protocol):
    """What a self-attention asks of a position scheme."""

    def rotate(self, states: Tensor, positions: Tensor) -> Tensor:
        """Queries or keys (batch, heads, length, d_head), positions (batch or 1, length) -> the same shape."""

    def relate(self, query: Tensor, key: Tensor, query_positions: Tensor, key_positions: Tensor) -> Relation:
        """Rotated queries and keys and their positions -> what is known about each pair."""


class Position(nn.Module):
    """A position scheme; one instance serves a whole stack. Wiring: d_model, heads, d_head, length.

    A scheme overrides what it needs of `add` (once, on the embeddings), `rotate` (in each self-attention, on
    queries and keys) and `relate` (in each self-attention, on pairs). What it does is told by its class, so that a
    recipe can refuse an attention that cannot go with it.
    """

    rotates: ClassVar[bool] = False  # needs scores that are inner products
    biases: ClassVar[bool] = False  # needs a score for each pair
    relates_values: ClassVar[bool] = False  # needs a weight for each pair
    limit: int | None = None  # the longest sequence in tokens, if the scheme has one

    def __init__(self, d_model: int, heads: int, d_head: int, length: int) -> None:
        super().__init__()

    def layer(self, *, causal: bool) -> LayerPosition:
        """What one block uses; a scheme with parameters of each block's own makes them here, as a module.

        Args:
            causal: the stack is a decoder, whose queries see no later key.
        """
        return Lent(self)

    def add(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """Embeddings (batch, length, d_model), positions (batch or 1, length) int64 -> embeddings."""
        return embedded

    def rotate(self, states: Tensor, positions: Tensor) -> Tensor:
        """Queries or keys (batch, heads, length, d_head), positions (batch or 1, length) -> the same shape."""
        return states

    def relate(self, query: Tensor, key: Tensor, query_positions: Tensor, key_positions: Tensor) -> Relation:
        """What the scheme says about pairs of queries and keys.

        Args:
            query: (batch, heads, queries, d_head), rotated.
            key: (batch, kv_heads, keys, d_head), rotated; those of a cache included.
            query_positions, key_positions: (batch or 1, queries) and (batch or 1, keys) int64.
        """
        return UNRELATED


@dataclass(frozen=True, eq=False)
class Lent:
    """A scheme seen from a block: no submodule, so that its parameters are counted once, in the stack."""

    position: Position

    def rotate(self, states: Tensor, positions: Tensor) -> Tensor:
        return self.position.rotate(states, positions)

    def relate(self, query: Tensor, key: Tensor, query_positions: Tensor, key_positions: Tensor) -> Relation:
        return self.position.relate(query, key, query_positions, key_positions)


def distances(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """How far each key stands before each query: (batch or 1, queries, keys), negative for later keys."""
    return query_positions[:, :, None] - key_positions[:, None, :]


POSITIONS: Registry[Position] = Registry("position")


@POSITIONS.register("none")
class NoPosition(Position):
    """No positions: a causal model can still tell order from its mask (Haviv et al., 2022, arXiv:2203.16634)."""
