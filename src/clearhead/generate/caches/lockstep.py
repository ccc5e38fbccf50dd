"""A cache whose rows all grow together: for searches, and whoever decodes one batch from its begin to its end."""

from collections.abc import Callable

import torch
from torch import Tensor

from clearhead.model.cache import KeyValue


class DenseLayer:
    """One block's keys and values in buffers that double when they are full; for use without gradients."""

    def __init__(self) -> None:
        self.length = 0  # tokens held
        self.key = self.value = torch.empty(0)  # (rows, kv_heads, capacity, d_head)
        self.positions = torch.empty(0)  # (rows, capacity)
        self.source: KeyValue | None = None

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Append (rows, kv_heads, new, d_head) and positions (rows or 1, new); return all tokens so far."""
        start, end = self.length, self.length + key.shape[2]
        positions = positions.expand(len(key), -1)  # (rows, new)
        if start == 0 or end > self.key.shape[2]:
            capacity = max(16, 2 * end)
            self.key = _grown(self.key, key, start, capacity, 2)
            self.value = _grown(self.value, value, start, capacity, 2)
            self.positions = _grown(self.positions, positions, start, capacity, 1)
        self.length = end
        self.key[:, :, start:end], self.value[:, :, start:end], self.positions[:, start:end] = key, value, positions
        return self.key[:, :, :end], self.value[:, :, :end], self.positions[:, :end]

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        """The encoder's keys and values (sources, kv_heads, source, d_head), computed at the first call."""
        if self.source is None:
            self.source = compute()
        return self.source

    def select(self, rows: Tensor) -> None:
        """Make row i what row `rows[i]` was: beams that changed places, or finished sentences that leave."""
        if self.length:
            self.key, self.value = (_picked(each, rows, self.length, 2) for each in (self.key, self.value))
            self.positions = _picked(self.positions, rows, self.length, 1)

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`."""
        self.length = min(self.length, length)

    def select_sources(self, sources: Tensor) -> None:
        """Keep these sources, in this order."""
        if self.source is not None:
            self.source = (self.source[0][sources], self.source[1][sources])


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

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`: what was tried and refused."""
        for layer in self._layers:
            layer.truncate(length)

    def select_sources(self, sources: Tensor) -> None:
        """Keep the memories of these sources."""
        for layer in self._layers:
            layer.select_sources(sources)

    @property
    def bytes(self) -> int:
        """Bytes of the buffers of keys and values, the part not yet filled included."""
        tensors = [t for each in self._layers for t in (each.key, each.value, *(each.source or ()))]
        return sum(each.numel() * each.element_size() for each in tensors)


def _grown(old: Tensor, new: Tensor, used: int, capacity: int, dim: int) -> Tensor:
    """A buffer of the kind of `new` with room for `capacity` tokens along `dim`, the first `used` ones from `old`."""
    buffer = new.new_empty(*new.shape[:dim], capacity, *new.shape[dim + 1 :])
    if used:
        buffer.narrow(dim, 0, used).copy_(old.narrow(dim, 0, used))
    return buffer


def _picked(buffer: Tensor, rows: Tensor, used: int, dim: int) -> Tensor:
    """These rows of a buffer, (rows, ...); only what is in use is copied."""
    picked = buffer.new_empty(len(rows), *buffer.shape[1:])
    torch.index_select(buffer.narrow(dim, 0, used), 0, rows, out=picked.narrow(dim, 0, used))
    return picked
