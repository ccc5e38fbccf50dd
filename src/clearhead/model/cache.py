"""What attention asks of a key/value cache. This room declares it; the generate room supplies caches that keep."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

KeyValue = tuple[Tensor, Tensor]  # each (batch, kv_heads, keys, d_head)


class LayerCache(Protocol):
    """What one decoder block keeps between calls."""

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add the keys and values of the new tokens and their positions; return those of all tokens so far."""

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        """The keys and values of the encoder's output, computed once for each source."""


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
