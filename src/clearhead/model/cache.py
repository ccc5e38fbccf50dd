"""What attention asks of a key/value cache. This room declares it; the generate room supplies caches that keep."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

KeyValue = tuple[Tensor, Tensor]  # each (batch, kv_heads, keys, d_head)


class LayerCache(Protocol):
    """What one decoder block keeps between calls."""

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add the keys and values of the new tokens and their positions; return those of all tokens so far."""

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        """The keys and values of the encoder's output, computed once for each source."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a layer cache keeps the tokens of all rows, with room for one more in each."""

    key: Tensor  # (rows, kv_heads, keys, d_head), or with slots (slots, kv_heads, d_head)
    value: Tensor  # likewise
    positions: Tensor  # (rows, keys) int64
    slots: Tensor | None = None  # (rows, keys) int64


class InPlace:
    """A layer cache that can lend its own memory, so that a step writes the newest keys and values where they stay."""

    @property
    def places(self) -> bool:
        """Whether it can do so."""
        return True

    def place(self, positions: Tensor, like: Tensor) -> Place:
        """Make room for one more token of every row; its keys and values are the caller's to write.

        Args:
            positions: (rows or 1, 1) int64, of the new tokens.
            like: of the shape and the kind of the new keys, (rows, kv_heads, 1, d_head).
        """
        raise NotImplementedError


class Cache(Protocol):
    """The caches of all decoder blocks."""

    def layer(self, index: int) -> LayerCache:
        """The cache of block `index`."""


class NoCache:
    """Keeps nothing; serves as the cache of every layer in training and in encoders."""

    def layer(self, index: int) -> LayerCache:
        return self

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return key, value, positions

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        return compute()


NO_CACHE = NoCache()
