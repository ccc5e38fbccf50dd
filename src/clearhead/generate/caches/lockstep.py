"""A cache whose rows all grow together: for searches, and whoever decodes one batch from its begin to its end."""

from collections.abc import Callable

import torch
from torch import Tensor

from clearhead.model.cache import Ahead, InPlace, KeyValue, Place


class Places:
    """Where tokens are, the same for all blocks: in their texts (positions) and in the buffers (origins).

    Rows that change places need not be moved in the buffers: it is enough to know in whose row each token was written.
    That serves whoever looks keys up one by one; `DenseCache.settle` moves them for everybody else.
    """

    def __init__(self) -> None:
        self.buffer = self.now = torch.empty(0, 0)  # positions (rows, capacity), and those in use
        self.length = 0  # tokens
        self.origins: Tensor | None = None  # (rows, capacity) int64; None = each token is in its own row
        self.lent = False  # the newest tokens were written by someone who knows origins

    def extend(self, start: int, positions: Tensor) -> Tensor:
        """Those before `start` and then these, (rows, new); one and the same tensor for all blocks of a pass."""
        end = start + positions.shape[1]
        if end > self.now.shape[1]:
            if start == 0 or end > self.buffer.shape[1]:
                self.buffer = _grown(self.buffer, positions, start, _room(start, end), 1)
            self.buffer[:, start:end] = positions
        if end != self.now.shape[1]:
            self.now = self.buffer[:, :end]
        self.length = end
        return self.now

    def lend(self, length: int, positions: Tensor, rows: int) -> None:
        """New tokens in every row, its own; there are `length` now. The first block tells for all others."""
        self.lent = True
        if self.length == length:
            return
        start = self.length
        self.extend(start, positions.expand(rows, -1))
        if self.origins is not None:
            if length > self.origins.shape[1]:
                self.origins = _grown(self.origins, self.origins, start, _room(start, length), 1)
            self.origins[:, start:length] = torch.arange(rows, device=positions.device)[:, None]

    def select(self, rows: Tensor) -> None:
        """Make row i what row `rows[i]` was."""
        if self.length:
            self.buffer = self.buffer[rows]
            self.now = self.buffer[:, : self.length]

    def point(self, rows: Tensor) -> None:
        """The same, and tell origins."""
        self.select(rows)
        if self.origins is None:
            self.origins = rows[:, None].repeat(1, _room(self.length, self.length + 1))
        else:
            self.origins = self.origins[rows]

    def truncate(self, length: int) -> None:
        """Forget all but the first `length`."""
        self.now = self.now[:, :length]
        self.length = min(self.length, length)


class DenseLayer(InPlace):
    """One block's keys and values in buffers that double when they are full; for use without gradients."""

    def __init__(self, cache: "DenseCache", places: Places) -> None:
        self.length = 0  # tokens held
        self.key = self.value = torch.empty(0)  # (rows, kv_heads, capacity, d_head)
        self.spare: KeyValue | None = None  # buffers that are not in use, for `select` to write into
        self.cache, self.positions = cache, places
        self.source: KeyValue | None = None

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Append (rows, kv_heads, new, d_head) and positions (rows or 1, new); return all tokens so far."""
        self.cache.settle()
        start = self._lengthen(key, value, key.shape[2])
        self.key[:, :, start : self.length], self.value[:, :, start : self.length] = key, value
        there = self.positions.extend(start, positions.expand(len(key), -1))
        return self.key[:, :, : self.length], self.value[:, :, : self.length], there

    def place(self, positions: Tensor, like: Tensor) -> Place:
        self._lengthen(like, like, like.shape[2])
        there = self.positions
        there.lend(self.length, positions, like.shape[0])
        return Place(self.key, self.value, there.now, 0, self.length, there.origins)

    def settle(self, origins: Tensor) -> None:
        """Move every token into its own row; origins (rows, tokens)."""
        columns = torch.arange(self.length, device=origins.device)
        self.key, self.value = (
            each.transpose(1, 2)[origins, columns].transpose(1, 2).contiguous() for each in (self.key, self.value)
        )
        self.spare = None

    def _lengthen(self, key: Tensor, value: Tensor, new: int) -> int:
        """Room for so many more tokens of the kind of these; returns where they begin."""
        start, self.length = self.length, self.length + new
        if start == 0 or self.length > self.key.shape[2]:
            self.key = _grown(self.key, key, start, _room(start, self.length), 2)
            self.value = _grown(self.value, value, start, _room(start, self.length), 2)
        return start

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


class DenseCache(Ahead):
    """One DenseLayer for each decoder block; rows are sequences (sources times beams)."""

    def __init__(self, layers: int) -> None:
        self._places = Places()
        self._layers = [DenseLayer(self, self._places) for _ in range(layers)]

    def layer(self, index: int) -> DenseLayer:
        """The cache of block `index`."""
        return self._layers[index]

    def select(self, rows: Tensor) -> None:
        """Rearrange the sequences: row i becomes what row `rows[i]` was."""
        if self._places.lent and rows.shape[0] <= self._layers[0].key.shape[0]:
            self._places.point(rows)
            return
        self.settle()
        self._places.select(rows)
        for layer in self._layers:
            layer.select(rows)

    def settle(self) -> None:
        """Move every token into its own row of the buffers."""
        places, self._places.lent = self._places, False
        if places.origins is not None:
            for layer in self._layers:
                layer.settle(places.origins[:, : places.length])
            places.origins = None

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`: what was tried and refused."""
        self._places.truncate(length)
        for layer in self._layers:
            layer.truncate(length)

    def rearrange(self, origins: Tensor | None, length: int) -> None:
        self.truncate(length)
        if origins is not None:
            self._places.origins = origins

    def select_sources(self, sources: Tensor) -> None:
        """Keep the memories of these sources."""
        for layer in self._layers:
            layer.select_sources(sources)

    @property
    def bytes(self) -> int:
        """Bytes of the buffers of keys and values, the part not yet filled included."""
        tensors = [t for each in self._layers for t in (each.key, each.value, *(each.source or ()))]
        return sum(each.numel() * each.element_size() for each in tensors)


def _room(held: int, needed: int) -> int:
    """Room of a buffer that holds so many tokens and needs room for more, some of which it may not keep."""
    return max(16, 2 * held + 2, needed)


def _grown(old: Tensor, new: Tensor, used: int, capacity: int, dim: int) -> Tensor:
    """A buffer of the kind of `new` with room for `capacity` tokens along `dim`, the first `used` ones from `old`."""
    rows = max(new.shape[0], old.shape[0]) if used else new.shape[0]  # old rows may hold tokens of others
    buffer = new.new_empty(rows, *new.shape[1:dim], capacity, *new.shape[dim + 1 :])
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
