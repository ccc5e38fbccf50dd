"""Keys and values side by side in one buffer for each block: the fastest layout, because a step writes in place.

Memory: rows times the longest sample, twice that while it grows. Samples of one length waste nothing.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.generate.caches.base import CACHES, Cache, MemoryOf, Part, Tokens, no_memory, require_tokens
from clearhead.generate.caches.codec import Codec, Exact, Int8
from clearhead.generate.caches.reading import Reading, States
from clearhead.generate.caches.rows import Rows, Track
from clearhead.model import ModelConfig
from clearhead.model.cache import InPlace, KeyValue, Place


@CACHES.register("dense")
class Dense(Cache):
    """Every token of every sample, in rows that end together."""

    def __init__(self, config: ModelConfig, blocks: int, size: int) -> None:
        super().__init__(config, blocks, size)
        self.codec: Codec = Exact()
        self.rows: Rows[Tokens] = Rows(self.window)
        self.partial: dict[Tokens, States] = {}  # samples that are not read to their end

    @property
    def window(self) -> int | None:
        """The most tokens that are ever read; None = all."""
        return None

    def read(self, parts: Sequence[Part[Tokens]], device: torch.device, memory: MemoryOf = no_memory) -> "DenseReading":
        past = self.partial.get(parts[0].sample, {})
        return DenseReading(self, parts, past, self.window, memory, device)

    def advance(self, device: torch.device, memory: MemoryOf = no_memory) -> "Advance":
        return Advance(self.rows, self.codec, device, memory)

    def keep(self, reading: Reading) -> None:
        """Samples that are read to their end join the rows; the others wait for their next part."""
        states = reading.states
        if not reading.parts[-1].last:
            self.partial[reading.parts[-1].sample] = {at: self._seen(each) for at, each in states.items()}
            return
        self.partial.pop(reading.parts[0].sample, None)
        joined = {at: (self._joined(key), self._joined(value)) for at, (key, value) in states.items()}
        samples, lengths = [each.sample for each in reading.parts], [each.stop for each in reading.parts]
        self.rows.join(samples, lengths, tracks_of(joined, self.codec))

    def _seen(self, both: KeyValue) -> KeyValue:
        """What the next part of a sample will see."""
        if self.window is None:
            return both
        key, value = (each[:, :, max(0, each.shape[2] - self.window + 1) :] for each in both)
        return key, value

    def _joined(self, state: Tensor) -> Tensor:
        return state if self.window is None else state[:, :, -self.window :]

    @property
    def order(self) -> list[Tokens]:
        return self.rows.order

    def fork(self, sample: Tokens, child: Tokens) -> None:
        self.rows.fork(sample, child)

    def drop(self, sample: Tokens) -> None:
        if self.partial.pop(sample, None) is None and sample in self.rows.order:
            self.rows.leave(sample)

    @property
    def bytes(self) -> int:
        waiting = [t for states in self.partial.values() for both in states.values() for t in both]
        return self.rows.bytes + sum(each.numel() * each.element_size() for each in waiting)


@CACHES.register("windowed")
class Windowed(Dense):
    """Only what the model's window can still see: memory does not grow with the length of the texts."""

    def __init__(self, config: ModelConfig, blocks: int, size: int) -> None:
        if config.window is None:
            raise ModelError("this model sees all earlier tokens: it has no window", remedy="use another cache")
        require_tokens("windowed", config)
        super().__init__(config, blocks, size)

    @property
    def window(self) -> int | None:
        return self.config.window


@CACHES.register("int8")
class Quantised(Dense):
    """Keys and values as int8 with a scale for each head and token: a quarter of the memory, nearly the same numbers.

    A prompt is read with exact numbers; they are rounded when its sample joins the rows.
    """

    exact = False

    def __init__(self, config: ModelConfig, blocks: int, size: int) -> None:
        require_tokens("int8", config)
        super().__init__(config, blocks, size)
        self.codec = Int8()


class DenseReading(Reading):
    """A reading whose keys and values go to a dense cache."""

    def __init__(
        self,
        cache: Dense,
        parts: Sequence[Part[Tokens]],
        past: States,
        window: int | None,
        memory: MemoryOf,
        device: torch.device,
    ) -> None:
        super().__init__(parts, past, window, memory, device)
        self.cache = cache

    def close(self) -> None:
        """Keep what was read."""
        self.cache.keep(self)


class Advance:
    """One new token for every row."""

    def __init__(self, rows: Rows[Tokens], codec: Codec, device: torch.device, memory: MemoryOf) -> None:
        rows.step()
        self.rows, self.codec, self.memory = rows, codec, memory
        self.valid = rows.valid(device)
        self.reach, self.first = rows.reach, rows.first
        self.key_positions = rows.positions(device)  # (rows, keys)
        self.positions = self.key_positions[:, -1:]  # (rows, 1)

    def layer(self, index: int) -> "AdvanceLayer":
        return AdvanceLayer(self, index)

    def close(self) -> None:
        """Everything is in its place."""


class AdvanceLayer(InPlace):
    """One block's columns of a step."""

    def __init__(self, call: Advance, index: int) -> None:
        self.call, self.index = call, index

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Write the newest column, where there is one; return all."""
        new = key.shape[2]
        return self._side(0, key, 1 - new), self._side(1, value, 1 - new), self.call.key_positions

    @property
    def places(self) -> bool:
        """Only where what is stored is what is read."""
        return isinstance(self.call.codec, Exact)

    def place(self, positions: Tensor, like: Tensor) -> Place:
        call, tracks = self.call, self.call.rows.tracks
        key, value = tracks[self.index, 0, 0], tracks[self.index, 1, 0]
        return Place(key, value, call.key_positions, call.first, call.reach)

    def _side(self, side: int, state: Tensor, before: int) -> Tensor:
        rows, codec = self.call.rows, self.call.codec
        pieces = codec.encode(state)
        tracks = [(self.index, side, piece) for piece in range(len(pieces))]
        if not before:
            for track, stored in zip(tracks, pieces, strict=True):
                rows.write(track, stored)
        return codec.decode(tuple(rows.view(track, before=before) for track in tracks))

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        return self.call.memory(self.index, compute)


def tracks_of(states: Mapping[int, KeyValue], codec: Codec) -> dict[Track, Tensor]:
    """What is stored of each block, side (keys, values) and piece."""
    return {
        (index, side, piece): stored
        for index, both in states.items()
        for side, state in enumerate(both)
        for piece, stored in enumerate(codec.encode(state))
    }
