"""Rows of different length that all end at the same column, so that one step writes one column for all of them.

    columns    0 1 2 3 4 5 6 7 8 | end = 9
    row 0          a b c d e f g |
    row 1                  h i j |        the keys of a row stand side by side, its newest one is the last:
    row 2              k l m n o |        windows, convolutions and recurrent states need no other rule

A row that joins is written up to the common end; a step moves the end by one. What lies left of a row is masked.
"""

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

Owner = TypeVar("Owner", bound=Hashable)
Track = Hashable  # names a tensor whose rows these are, such as (layer, "key")
ROOM = 32  # columns that are made free at least, whenever columns are moved


class Rows(Generic[Owner]):
    """Tensors (rows, ..., columns, features), one for each track, whose rows belong to samples.

    Args:
        window: the most columns of a row that are ever read; None = all.
    """

    def __init__(self, window: int | None = None) -> None:
        self.window = window
        self.order: list[Owner] = []  # whose row it is
        self.lengths: list[int] = []  # tokens of each row
        self.version = 0  # changes whenever rows come, go or change places
        self._end = 0
        self._rows = self._columns = 0  # the room there is
        self.tracks: dict[Track, Tensor] = {}  # (rows, ..., columns, features) with room for more of both
        self._counts = torch.empty(0, dtype=torch.int64)  # `lengths` as a tensor

    def __len__(self) -> int:
        return len(self.order)

    @property
    def bytes(self) -> int:
        """Bytes of all tracks, the room not in use included."""
        return sum(each.numel() * each.element_size() for each in self.tracks.values())

    @property
    def reach(self) -> int:
        """Columns that are read: those of the longest row."""
        longest = max(self.lengths, default=0)
        return longest if self.window is None else min(longest, self.window)

    @property
    def first(self) -> int:
        """The first of these columns in the tensors of the tracks."""
        return self._end - self.reach

    # --- rows come and go ---

    def join(self, samples: list[Owner], lengths: list[int], states: Mapping[Track, Tensor]) -> None:
        """New rows with their states, (rows, ..., columns, features) each, the newest token in the last column."""
        first, longest = len(self.order), max(lengths)  # states may be fewer: recurrent layers keep one for many tokens
        self._fit(first + len(samples), min(longest, self.window or longest), ahead=0)
        for track, state in states.items():
            room = self._track(track, state)[first : first + len(samples)]
            room.zero_()  # a masked NaN of who was here before would still spread
            room[..., self._end - state.shape[-2] : self._end, :] = state
        self.order += samples
        self.lengths += lengths
        self._changed()

    def fork(self, sample: Owner, child: Owner) -> None:
        """A new row that is a copy of a sample's."""
        row = self.order.index(sample)
        reach = min(self.lengths[row], self.reach)
        now = slice(self._end - reach, self._end)
        states = {track: each[row : row + 1, ..., now, :].clone() for track, each in self.tracks.items()}
        self.join([child], [self.lengths[row]], states)

    def leave(self, sample: Owner) -> None:
        """The row of a sample goes; the last row takes its place."""
        row, last = self.order.index(sample), len(self.order) - 1
        if row != last:
            for each in self.tracks.values():
                each[row] = each[last]
            self.order[row], self.lengths[row] = self.order[last], self.lengths[last]
        self.order.pop()
        self.lengths.pop()
        self._changed()

    # --- columns ---

    def step(self) -> None:
        """One more column for every row; `write` it in each track."""
        self._fit(len(self.order), 0, ahead=1)
        self._end += 1
        self.lengths = [each + 1 for each in self.lengths]
        self._counts = self._counts + 1

    def write(self, track: Track, column: Tensor) -> None:
        """The newest column of all rows, (rows, ..., 1, features)."""
        self._track(track, column)[: len(self.order), ..., self._end - 1 : self._end, :] = column

    def overwrite(self, track: Track, sample: Owner, state: Tensor) -> None:
        """Other states for the newest columns of one row, (..., columns, features)."""
        row = self.tracks[track][self.order.index(sample)]
        row[..., self._end - state.shape[-2] : self._end, :] = state

    def view(self, track: Track, *, before: int = 0) -> Tensor:
        """All that is read of a track, (rows, ..., columns, features), without the newest `before` columns."""
        return self.tracks[track][: len(self.order), ..., self._end - self.reach : self._end - before, :]

    def valid(self, device: torch.device) -> Tensor | None:
        """Which of the columns that are read belong to their row, (rows, columns) bool; None = all."""
        reach = self.reach
        if min(self.lengths, default=0) >= reach:
            return None
        return torch.arange(reach, device=device) >= reach - self._counts.to(device)[:, None]

    def positions(self, device: torch.device) -> Tensor:
        """The position of each column that is read, (rows, columns), counted from 0; 0 for what is no row's."""
        reach = self.reach
        offset = torch.arange(-reach, 0, device=device)
        return (self._counts.to(device)[:, None] + offset).clamp_(min=0)

    # --- room ---

    def _track(self, track: Track, like: Tensor) -> Tensor:
        """The tensor of a track, made at its first use."""
        if track not in self.tracks:
            shape = (self._rows, *like.shape[1:-2], self._columns, like.shape[-1])
            self.tracks[track] = like.new_zeros(shape)
        return self.tracks[track]

    def _fit(self, rows: int, reach: int, *, ahead: int) -> None:
        """Room for so many rows, for `reach` columns before the end, and for `ahead` after it."""
        reach = max(reach, self.reach)
        if rows <= self._rows and reach <= self._end and self._end + ahead <= self._columns:
            return
        room = reach + max(reach, ROOM)  # a move copies `reach` columns and lasts for as many steps
        columns = max(self._columns, room)
        rows = self._rows if rows <= self._rows else max(rows, 2 * self._rows)
        kept = min(self.reach, self._end)
        for track, old in self.tracks.items():
            now = old[: len(self.order), ..., self._end - kept : self._end, :]
            self.tracks[track] = _moved(old, now, rows, columns, reach)
        self._rows, self._columns, self._end = rows, columns, reach

    def _changed(self) -> None:
        self.version += 1
        self._counts = torch.tensor(self.lengths, dtype=torch.int64)


def _moved(old: Tensor, now: Tensor, rows: int, columns: int, end: int) -> Tensor:
    """The columns `now`, up to column `end` of a tensor with so much room; in place where there is enough."""
    if rows > old.shape[0] or columns > old.shape[-2]:
        new = old.new_zeros(rows, *old.shape[1:-2], columns, old.shape[-1])
    else:
        new, now = old, now.clone()
    new[: len(now), ..., end - now.shape[-2] : end, :] = now
    return new
