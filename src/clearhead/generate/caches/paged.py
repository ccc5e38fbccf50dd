"""Keys and values in blocks of one pool, so that memory is taken block by block and shared between texts.

Source: Kwon et al., 2023, arXiv:2309.06180. The blocks of a sample are handed out by `generate.blocks`; here they are
read and written. A step gathers the keys of all rows from the pool, which costs what a dense cache saves: it is worth
it where memory is short or many texts begin alike.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from clearhead.generate.caches.base import CACHES, Cache, MemoryOf, Part, Tokens, no_memory, require_tokens
from clearhead.generate.caches.reading import Reading, ReadingLayer
from clearhead.generate.caches.rows import Rows
from clearhead.model import ModelConfig
from clearhead.model.cache import InPlace, KeyValue, Place

SLOT = "slot"  # the track that tells where in the pool each token of a row is


class Pool:
    """One side of one block: a state for each slot, (slots, kv_heads, d_head), made at its first use.

    Slot 0 is nobody's and stays zero: what is masked is read there, and a masked NaN of another text would spread.
    """

    def __init__(self) -> None:
        self.room = 0  # slots
        self.states: Tensor | None = None

    def grow(self, room: int) -> None:
        """Have so many slots."""
        self.room = room
        if self.states is not None:
            old, self.states = self.states, self.states.new_zeros(room, *self.states.shape[1:])
            self.states[: len(old)] = old

    def write(self, slots: Tensor, states: Tensor) -> None:
        """States (tokens, kv_heads, d_head) at slots (tokens,)."""
        if self.states is None:
            self.states = states.new_zeros(self.room, *states.shape[1:])
        self.states[slots] = states.to(self.states.dtype)

    def read(self, slots: Tensor) -> Tensor:
        """Slots (rows, columns) that were written before -> states (rows, kv_heads, columns, d_head)."""
        assert self.states is not None
        found = self.states.index_select(0, slots.flatten())  # (rows * columns, kv_heads, d_head)
        return found.view(*slots.shape, *found.shape[1:]).transpose(1, 2)

    def copy(self, old: Tensor, new: Tensor) -> None:
        """Fill the slots `new` with what `old` hold."""
        if self.states is not None:
            self.states[new] = self.states[old]


@CACHES.register("paged")
class Paged(Cache):
    """A pool of blocks; texts that begin alike hold the same blocks."""

    shares = True

    def __init__(self, config: ModelConfig, blocks: int, size: int) -> None:
        require_tokens("paged", config)
        super().__init__(config, blocks, size)
        self.size, self.most = size, 1 + blocks * size  # slots that there may be
        self.room = 0  # slots that there are
        self.pools = [(Pool(), Pool()) for _ in range(config.decoder_layers)]
        self.rows: Rows[Tokens] = Rows()

    def slots(self, sample: Tokens, start: int, stop: int, device: torch.device) -> Tensor:
        """Where tokens start to stop of a sample are in the pool, (stop - start,)."""
        first, last = start // self.size, -(-stop // self.size)
        self.reserve(max(sample.blocks[first:last], default=0))
        blocks = torch.tensor(sample.blocks[first:last], dtype=torch.int64, device=device)  # (blocks,)
        slots = 1 + blocks[:, None] * self.size + torch.arange(self.size, device=device)  # (blocks, size)
        return slots.flatten()[start - first * self.size : stop - first * self.size]

    def reserve(self, block: int) -> None:
        """Make room for blocks up to this one; the pool doubles, so that what is never used is never taken."""
        needed = 1 + (block + 1) * self.size
        if needed > self.room:
            self.room = min(self.most, max(needed, 2 * self.room))
            for both in self.pools:
                for pool in both:
                    pool.grow(self.room)

    def read(self, parts: Sequence[Part[Tokens]], device: torch.device, memory: MemoryOf = no_memory) -> "PagedReading":
        return PagedReading(self, parts, memory, device)

    def advance(self, device: torch.device, memory: MemoryOf = no_memory) -> "PagedAdvance":
        return PagedAdvance(self, device, memory)

    @property
    def order(self) -> list[Tokens]:
        return self.rows.order

    def fork(self, sample: Tokens, child: Tokens) -> None:
        self.rows.fork(sample, child)

    def drop(self, sample: Tokens) -> None:
        if sample in self.rows.order:
            self.rows.leave(sample)

    def copy(self, sample: Tokens, index: int, old: int) -> None:
        self.reserve(sample.blocks[index])
        used = sample.computed - index * self.size  # tokens in the block
        within = torch.arange(1, 1 + used, device=self._device)
        before, after = (block * self.size + within for block in (old, sample.blocks[index]))
        for both in self.pools:
            for pool in both:
                pool.copy(before, after)
        if sample in self.rows.order:
            self.rows.overwrite(SLOT, sample, after[:, None])

    @property
    def _device(self) -> torch.device:
        states = self.pools[0][0].states
        return torch.device("cpu") if states is None else states.device

    @property
    def bytes(self) -> int:
        made = [pool.states for both in self.pools for pool in both if pool.states is not None]
        return self.rows.bytes + sum(each.numel() * each.element_size() for each in made)


class PagedReading(Reading):
    """A reading whose keys and values go to the pool."""

    def __init__(self, cache: Paged, parts: Sequence[Part[Tokens]], memory: MemoryOf, device: torch.device) -> None:
        super().__init__(parts, {}, None, memory, device)
        self.cache = cache
        self.slots = [cache.slots(each.sample, 0, each.stop, device) for each in parts]

    def layer(self, index: int) -> "PagedReadingLayer":
        start = self.parts[0].start
        if start:
            known = self.slots[0][None, :start]  # (1, start)
            key, value = self.cache.pools[index]
            self.past[index] = key.read(known), value.read(known)
        return PagedReadingLayer(self, index)

    def close(self) -> None:
        """The samples that are read to their end join the rows."""
        if self.parts[-1].last:
            slots = torch.stack([self._padded(each) for each in self.slots])  # (rows, columns)
            samples, lengths = [each.sample for each in self.parts], [each.stop for each in self.parts]
            self.cache.rows.join(samples, lengths, {SLOT: slots[:, :, None]})

    def _padded(self, slots: Tensor) -> Tensor:
        return torch.nn.functional.pad(slots, (self.width - len(slots), 0))


class PagedReadingLayer(ReadingLayer):
    """One block's part of a reading, written to the pool too."""

    reading: PagedReading

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        call = self.reading
        for pool, state in zip(call.cache.pools[self.index], (key, value), strict=True):
            for row, (part, slots) in enumerate(zip(call.parts, call.slots, strict=True)):
                new = part.stop - part.start
                pool.write(slots[part.start :], state[row, :, -new:].transpose(0, 1))
        return super().extend(key, value, positions)


class PagedAdvance:
    """One new token for every row, into the slot that the blocks of its sample have for it."""

    def __init__(self, cache: Paged, device: torch.device, memory: MemoryOf) -> None:
        self.cache, self.memory = cache, memory
        rows, size = cache.rows, cache.size
        rows.step()
        last = [length - 1 for length in rows.lengths]
        blocks = [each.blocks[at // size] for each, at in zip(rows.order, last, strict=True)]
        cache.reserve(max(blocks))
        newest = [1 + block * size + at % size for block, at in zip(blocks, last, strict=True)]
        self.newest = torch.tensor(newest, device=device)  # (rows,)
        rows.write(SLOT, self.newest[:, None, None])
        self.slots = rows.view(SLOT)[..., 0]  # (rows, keys)
        self.valid = rows.valid(device)
        self.key_positions = rows.positions(device)  # (rows, keys)
        self.positions = self.key_positions[:, -1:]  # (rows, 1)

    def layer(self, index: int) -> "PagedAdvanceLayer":
        return PagedAdvanceLayer(self, index)

    def close(self) -> None:
        """Everything is in its place."""


class PagedAdvanceLayer(InPlace):
    """One block's slots of a step."""

    def __init__(self, call: PagedAdvance, index: int) -> None:
        self.call, self.index = call, index

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Write the newest keys and values, gather all."""
        call = self.call
        for pool, state in zip(call.cache.pools[self.index], (key, value), strict=True):
            pool.write(call.newest, state[:, :, 0])
        keys, values = (pool.read(call.slots) for pool in call.cache.pools[self.index])
        return keys, values, call.key_positions

    def place(self, positions: Tensor, like: Tensor) -> Place:
        key, value = (pool.states for pool in self.call.cache.pools[self.index])
        assert key is not None  # a text was read before
        assert value is not None
        return Place(key, value, self.call.key_positions, 0, self.call.slots.shape[1], self.call.slots)

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        return self.call.memory(self.index, compute)
