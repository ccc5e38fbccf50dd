"""What attention asks of a key/value cache. This room declares it; the generate room supplies caches that keep."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

KeyValue = tuple[Tensor, Tensor]  # each (batch, kv_heads, keys, d_head)


class LayerCache(Protocol):
    """What one decoder block keeps between calls."""

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add the keys and values of the new tokens and their positions; return those of all tokens so far."""

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        """The keys and values of the encoder's output, computed once for each source."""


class Place(NamedTuple):
    """Where a layer cache keeps the tokens of all rows, the new ones included; the same tensors as long as they serve.

    Args:
        key, value: (rows, kv_heads, room, d_head), or (rows, kv_heads, d_head) with one token in each row.
        positions: (rows, keys) int64.
        first, columns: the columns in use, of which the last ones are new, as many as were asked for.
        origins: (rows, keys) int64, the row of `key` and `value` that each token is in; None = its own.
    """

    key: Tensor
    value: Tensor
    positions: Tensor
    first: int
    columns: int
    origins: Tensor | None = None


class InPlace:
    """A layer cache that can lend its own memory, so that a step writes the newest keys and values where they stay."""

    @property
    def places(self) -> bool:
        """Whether it can do so."""
        return True

    def place(self, positions: Tensor, like: Tensor) -> Place:
        """Make room for new tokens of every row, usually one; their keys and values are the caller's to write.

        Args:
            positions: (rows or 1, 1) int64, of the new tokens; the layers of a cache that is `Ahead` take more than 1.
            like: of the shape and the kind of the new keys, (rows, kv_heads, 1 or more, d_head).
        """
        raise NotImplementedError


class Ahead:
    """A cache that lends room for several tokens at once and takes back what was not used."""

    def layer(self, index: int) -> LayerCache:
        """The cache of block `index`."""
        raise NotImplementedError

    def rearrange(self, origins: Tensor | None, length: int) -> None:
        """Keep the first `length` tokens.

        Args:
            origins: (rows, `length` or more) int64, the row that each token of row i is in; None = as they were.
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
