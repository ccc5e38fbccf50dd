"""Caches of keys and values for incremental decoding."""

from collections.abc import Callable

import torch
from torch import Tensor

from clearhead.model.cache import KeyValue


class DenseLayer:
    """One block's keys and values in buffers that double when they are full."""

    def __init__(self) -> None:
        self.length = 0  # tokens held
        self.key = self.value = self.positions = torch.empty(0)
        self.source: KeyValue | None = None

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Append (rows, kv_heads, new, d_head) and positions (rows or 1, new); return all tokens so far."""
        positions = positions.expand(key.shape[0], -1)
        start, self.length = self.length, self.length + key.shape[2]
        if start == 0 or self.length > self.key.shape[2]:
            self._grow(key, value, positions, start)
        self.key[:, :, start : self.length] = key
        self.value[:, :, start : self.length] = value
        self.positions[:, start : self.length] = positions
        end = self.length
        return self.key[:, :, :end], self.value[:, :, :end], self.positions[:, :end]

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        """The encoder's keys and values (sources, kv_heads, source, d_head), computed at the first call."""
        if self.source is None:
            self.source = compute()
        return self.source

    def select(self, rows: Tensor) -> None:
        """Make row i what row `rows[i]` was: beams that changed places, or finished sentences that leave."""
        used = self.length
        if used:
            self.key, self.value = self.key[rows], self.value[rows]
            self.positions = self.positions[rows]

    def select_sources(self, sources: Tensor) -> None:
        """Keep these sources, in this order."""
        if self.source is not None:
            self.source = (self.source[0][sources], self.source[1][sources])

    def _grow(self, key: Tensor, value: Tensor, positions: Tensor, used: int) -> None:
        rows, heads, _, width = key.shape
        capacity = max(16, 2 * self.length)
        for name, new in (("key", key), ("value", value)):
            buffer = new.new_empty(rows, heads, capacity, width)
            if used:
                buffer[:, :, :used] = getattr(self, name)[:, :, :used]
            setattr(self, name, buffer)
        places = positions.new_empty(rows, capacity)
        if used:
            places[:, :used] = self.positions[:, :used]
        self.positions = places


class DenseCache:
    """One DenseLayer for each decoder block; rows are sequences (sources times beams)."""

    def __init__(self, layers: int) -> None:
        self._layers = [DenseLayer() for _ in range(layers)]

    def layer(self, index: int) -> DenseLayer:
        """The cache of block `index`."""
        return self._layers[index]

    def select(self, rows: Tensor) -> None:
        """Rearrange the sequences: row i becomes what row `rows[i]` was."""
        for layer in self._layers:
            layer.select(rows)

    def select_sources(self, sources: Tensor) -> None:
        """Keep the memories of these sources."""
        for layer in self._layers:
            layer.select_sources(sources)

    @property
    def bytes(self) -> int:
        """Bytes of keys and values held."""
        tensors = [t for each in self._layers for t in (each.key, each.value, *(each.source or ()))]
        return sum(each.numel() * each.element_size() for each in tensors)
