"""The doorway of the position family: four places where a scheme may act, none of them used by default.

What a scheme knows from positions alone (`turns`, `bias`) is asked once in a forward pass and serves all blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from clearhead.core.registry import Registry


@dataclass(frozen=True, eq=False)
class Relation:
    """What a scheme says about pairs in one block, from its queries and keys; None = nothing.

    Args:
        bias: (batch or 1, heads, queries, keys), added to the scores after their scaling.
        values: (batch or 1, queries, keys, d_head), added to the value of each pair, the same for all heads.
    """

    bias: Tensor | None = None
    values: Tensor | None = None


UNRELATED = Relation()


class LayerPosition(Protocol):
    """What a self-attention asks of a position scheme."""

    def turns(self, positions: Tensor, dtype: torch.dtype) -> Any:
        """Positions (batch or 1, length), the number format of queries and keys -> what `rotate` needs to know."""

    def rotate(self, states: Tensor, turns: Any) -> Tensor:
        """Queries or keys (batch, heads, length, d_head) and what `turns` said -> the same shape."""

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """(batch or 1, queries), (batch or 1, keys) -> what is added to scores, (batch or 1, heads, queries, keys)."""

    def relate(self, query: Tensor, key: Tensor, query_positions: Tensor, key_positions: Tensor) -> Relation:
        """Rotated queries and keys and their positions -> what only they tell about each pair."""


class InLayer(nn.Module):
    """A position scheme's own part of one block; it does nothing but what it overrides."""

    def turns(self, positions: Tensor, dtype: torch.dtype) -> Any:
        """What `rotate` needs to know, computed once in a pass.

        Args:
            positions: (batch or 1, length) int64.
            dtype: of queries and keys.
        """
        return None

    def rotate(self, states: Tensor, turns: Any) -> Tensor:
        """Queries or keys (batch, heads, length, d_head), what `turns` said of their positions -> the same shape."""
        return states

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """What is added to the scores of pairs, whatever the tokens are; computed once in a pass.

        Args:
            query_positions, key_positions: (batch or 1, queries) and (batch or 1, keys) int64.

        Returns:
            (batch or 1, heads, queries, keys), or None for nothing.
        """
        return None

    def relate(self, query: Tensor, key: Tensor, query_positions: Tensor, key_positions: Tensor) -> Relation:
        """What the scheme says about pairs in view of their queries and keys; computed in each block.

        Args:
            query: (batch, heads, queries, d_head), rotated.
            key: (batch, kv_heads, keys, d_head), rotated; those of a cache included.
            query_positions, key_positions: (batch or 1, queries) and (batch or 1, keys) int64.
        """
        return UNRELATED


class Position(InLayer):
    """A position scheme; one instance serves a whole stack. Wiring: d_model, heads, d_head, length.

    A scheme overrides what it needs of `add` (on the embeddings), `turns` and `rotate` (on queries and keys), `bias`
    (on scores) and `relate` (on scores and values). What it does is told by its class, so that a recipe can refuse
    an attention that cannot go with it.
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


class Lent:
    """A scheme seen from a block: no submodule, so that its parameters are counted once, in the stack.

    It hands out the scheme's own methods: what one block has asked is then known to be the same for the others.

    Args:
        bias: another method of the scheme in place of its `bias`.
    """

    def __init__(self, position: Position, bias: Callable[[Tensor, Tensor], Tensor | None] | None = None) -> None:
        self.position = position
        self.turns, self.rotate, self.relate = position.turns, position.rotate, position.relate
        self.bias = position.bias if bias is None else bias


def distances(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """How far each key stands before each query: (batch or 1, queries, keys), negative for later keys."""
    return query_positions[:, :, None] - key_positions[:, None, :]


POSITIONS: Registry[Position] = Registry("position")


@POSITIONS.register("none")
class NoPosition(Position):
    """No positions: a causal model can still tell order from its mask (Haviv et al., 2022, arXiv:2203.16634)."""
