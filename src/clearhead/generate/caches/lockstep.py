"""A cache whose rows all grow together: for searches, and whoever decodes one batch from its begin to its end."""

from collections.abc import Callable

import torch
from torch import Tensor

from clearhead.model.cache import InPlace, KeyValue, Place


class Places:
    """Positions of the tokens held, (rows, tokens): the same for all blocks, so the first one writes for the others."""

    def __init__(self) -> None:
        self.buffer = self.now = torch.empty(0, 0)  # (rows, capacity), and what of it is in use
        self.length = 0  # tokens

    def extend(self, start: int, positions: Tensor) -> Tensor:
        """Those before `start` and then these, (rows, new); one and the same tensor for all blocks of a pass."""
        end = start + positions.shape[1]
        if end > self.now.shape[1]:
            if start == 0 or end > self.buffer.shape[1]:
                self.buffer = _grown(self.buffer, positions, start, _room(end), 1)
            self.buffer[:, start:end] = positions
        if end != self.now.shape[1]:
            self.now = self.buffer[:, :end]
        self.length = end
        return self.now

    def select(self, rows: Tensor) -> None:
        """Make row i what row `rows[i]` was."""
        length = self.now.shape[1]
        if length:
            self.buffer = self.buffer[rows]
            self.now = self.buffer[:, :length]

    def truncate(self, length: int) -> None:
        """Forget all but the first `length`."""
        self.now = self.now[:, :length]
        self.length = min(self.length, length)


class DenseLayer(InPlace):
    """One block's keys and values in buffers that double when they are full; for use without gradients."""

    def __init__(self, places: Places) -> None:
        self.length = 0  # tokens held
        self.key = self.value = torch.empty(0)  # (rows, kv_heads, capacity, d_head)
        self.spare: KeyValue | None = None  # buffers that are not in use, for `select` to write into
        self.positions = places
        self.source: KeyValue | None = None

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Append (rows, kv_heads, new, d_head) and positions (rows or 1, new); return all tokens so far."""
        start = self._lengthen(key, value, key.shape[2])
        self.key[:, :, start : self.length], self.value[:, :, start : self.length] = key, value
        return self._all(start, positions.expand(len(key), -1))

    def place(self, positions: Tensor, like: Tensor) -> Place:
        start = self._lengthen(like, like, 1)
        if self.positions.length < self.length:
            self.positions.extend(start, positions.expand(like.shape[0], -1))
        return Place(self.key, self.value, self.positions.now, 0, self.length)

    def _lengthen(self, key: Tensor, value: Tensor, new: int) -> int:
        """Room for so many more tokens of the kind of these; returns where they begin."""
        start, self.length = self.length, self.length + new
        if start == 0 or self.length > self.key.shape[2]:
            self.key = _grown(self.key, key, start, _room(self.length), 2)
            self.value = _grown(self.value, value, start, _room(self.length), 2)
        return start

    def _all(self, start: int, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        there = self.positions.extend(start, positions)
        return self.key[:, :, : self.length], self.value[:, :, : self.length], there

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        """The encoder's keys and values (sources, kv_heads, source, d_head), computed at the first call."""
        if self.source is None:
            self.source = compute()
        return self.source

    def select(self, rows: Tensor) -> None:
        """Make row i what row `rows[i]` was: beams that changed places, or finished sentences that leave."""
        if not self.length:
            return
        old = (self.key, self.value)
        spare = self.spare or old
        self.key, self.value = (_picked(*each, rows, self.length) for each in zip(old, spare, strict=True))
        self.spare = old

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
        self._places = Places()
        self._layers = [DenseLayer(self._places) for _ in range(layers)]

    def layer(self, index: int) -> DenseLayer:
        """The cache of block `index`."""
        return self._layers[index]

    def select(self, rows: Tensor) -> None:
        """Rearrange the sequences: row i becomes what row `rows[i]` was."""
        self._places.select(rows)
        for layer in self._layers:
            layer.select(rows)

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`: what was tried and refused."""
        self._places.truncate(length)
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


def _room(tokens: int) -> int:
    """How many tokens a buffer has room for that must take so many."""
    return max(16, 2 * tokens)


def _grown(old: Tensor, new: Tensor, used: int, capacity: int, dim: int) -> Tensor:
    """A buffer of the kind of `new` with room for `capacity` tokens along `dim`, the first `used` ones from `old`."""
    buffer = new.new_empty(*new.shape[:dim], capacity, *new.shape[dim + 1 :])
    if used:
        buffer.narrow(dim, 0, used).copy_(old.narrow(dim, 0, used))
    return buffer


def _picked(buffer: Tensor, spare: Tensor, rows: Tensor, used: int) -> Tensor:
    """These rows of a buffer, (rows, ...); only what is in use is copied.

    They are written into the spare buffer where it has the right size: new memory costs more than to fill it.
    """
    shape = (len(rows), *buffer.shape[1:])
    picked = spare if spare is not buffer and spare.shape == shape else buffer.new_empty(shape)
    torch.index_select(buffer.narrow(2, 0, used), 0, rows, out=picked.narrow(2, 0, used))
    return picked
