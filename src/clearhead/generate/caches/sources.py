"""What cross-attention reads: the keys and values of each source, kept once for all samples that read it."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from clearhead.generate.caches.base import MemoryOf
from clearhead.generate.caches.rows import Rows, Track
from clearhead.model import Memory
from clearhead.model.cache import KeyValue

Source = tuple[int, ...]


class Sources:
    """Sources by their ids. Rows that read the same source share it; it is forgotten with its last reader."""

    def __init__(self) -> None:
        self.rows: Rows[Source] = Rows()
        self._readers: Counter[Source] = Counter()
        self._spread: dict[Track, Tensor] = {}  # a row of keys or values for each reader, where rows are not sources
        self._spread_for: tuple[int, list[Source]] = (0, [])
        self._new: tuple[list[Source], dict[int, KeyValue]] = ([], {})  # of the call that encodes

    def __contains__(self, source: Source) -> bool:
        return source in self.rows.order

    def add(self, source: Source) -> None:
        """One more reader."""
        self._readers[source] += 1

    def leave(self, source: Source) -> None:
        """One reader less."""
        self._readers[source] -= 1
        if not self._readers[source]:
            del self._readers[source]
            if source in self:
                self.rows.leave(source)

    def writing(self, read: Sequence[Source]) -> MemoryOf:
        """For a call whose sources are encoded: its keys and values are computed, and wait for `keep`."""
        states: dict[int, KeyValue] = {}
        self._new = (list(read), states)

        def write(index: int, compute: Callable[[], KeyValue]) -> KeyValue:
            if index not in states:
                states[index] = compute()
            return states[index]

        return write

    def keep(self) -> None:
        """Keep what the last call has computed of sources that were not known; sources are padded on the left."""
        read, states = self._new
        new = [row for row, each in enumerate(read) if read.index(each) == row and each not in self]
        tracks: dict[Track, Tensor] = {
            (index, side): state[new] for index, both in states.items() for side, state in enumerate(both)
        }
        if tracks:
            self.rows.join([read[row] for row in new], [len(read[row]) for row in new], tracks)
        self._new = ([], {})

    def memory(self, readers: Sequence[Source], d_model: int, device: torch.device) -> tuple[Memory, MemoryOf]:
        """What the model is given for rows with these sources: no hidden states, since keys and values are known."""
        picked = None if list(readers) == self.rows.order else self._picked(readers, device)
        valid = self.rows.valid(device)
        valid = valid if valid is None or picked is None else valid[picked]
        count = len(readers)
        hidden = torch.empty(1, device=device).expand(count, self.rows.reach, d_model)

        def known(index: int, compute: Callable[[], KeyValue]) -> KeyValue:
            return self._states((index, 0), picked), self._states((index, 1), picked)

        return Memory(hidden, valid), known

    def _picked(self, readers: Sequence[Source], device: torch.device) -> Tensor:
        """The row of each reader's source, (readers,)."""
        now = (self.rows.version, list(readers))
        if self._spread_for != now:
            self._spread_for, self._spread = now, {}
        place = {each: row for row, each in enumerate(self.rows.order)}
        return torch.tensor([place[each] for each in readers], device=device)

    def _states(self, track: Track, picked: Tensor | None) -> Tensor:
        """(readers, kv_heads, source, d_head); copied once for each change of the readers, not in every step."""
        if picked is None:
            return self.rows.view(track)
        if track not in self._spread:
            self._spread[track] = self.rows.view(track)[picked]
        return self._spread[track]

    @property
    def bytes(self) -> int:
        """Bytes of keys and values."""
        return self.rows.bytes + sum(each.numel() * each.element_size() for each in self._spread.values())
