"""A call that reads several tokens of new samples: their own keys and values, after those of earlier parts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from clearhead.generate.caches.base import MemoryOf, Part, Tokens
from clearhead.model.cache import KeyValue

States = dict[int, KeyValue]  # block -> keys and values, (rows, kv_heads, columns, d_head)
Close = Callable[["Reading"], None]  # what the cache does with what was read


class Reading:
    """Rows padded on the left, so that all end at the last column; a part that goes on is a row alone.

    Args:
        parts: what is read.
        past: keys and values of earlier tokens, of one part alone; empty where there are none.
        window: the most earlier tokens that are seen; None = all.
    """

    def __init__(
        self, parts: Sequence[Part[Tokens]], past: States, window: int | None, memory: MemoryOf, device: torch.device
    ) -> None:
        self.parts, self.memory, self.past = parts, memory, past
        self.states: States = {}
        ends, lengths = [each.stop for each in parts], [each.stop - each.start for each in parts]
        starts = parts[0].start if window is None else min(parts[0].start, window - 1)
        self.new, self.width = max(lengths), starts + max(lengths)
        self.valid = None
        if min(lengths) < self.new:  # so all start at 0
            padding = self.new - torch.tensor(lengths, device=device)[:, None]  # (rows, 1)
            self.valid = torch.arange(self.new, device=device) >= padding
        offset = torch.arange(-self.width, 0, device=device)
        self.key_positions = (torch.tensor(ends, device=device)[:, None] + offset).clamp_(min=0)  # (rows, keys)
        self.positions = self.key_positions[:, self.width - self.new :]  # (rows, new)

    def layer(self, index: int) -> "ReadingLayer":
        return ReadingLayer(self, index)


class ReadingLayer:
    """One block's part of a reading."""

    def __init__(self, reading: Reading, index: int) -> None:
        self.reading, self.index = reading, index

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Put what is known before the new tokens and return both."""
        call = self.reading
        known = call.states.get(self.index) or call.past.get(self.index)
        if known is not None:
            key, value = torch.cat([known[0], key], dim=2), torch.cat([known[1], value], dim=2)
        call.states[self.index] = (key, value)
        return key, value, call.key_positions

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        return self.reading.memory(self.index, compute)
