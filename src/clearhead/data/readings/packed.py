"""Whole documents side by side in one row, none of which sees another.

Documents are placed where they leave the least room (best fit, longest first), so that few rows have padding and only
a document longer than a row is cut (Ding et al., 2024, arXiv:2404.10830).
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from clearhead.data.readings.base import READINGS, Pieces, Reading
from clearhead.data.store import Ids

BLOCK = 1_024  # consecutive documents that are read together
POOL = 16  # blocks that are packed together


class Span(NamedTuple):
    """A part of a document."""

    start: int  # first token in the corpus
    stop: int
    begins: bool  # the document begins here: the bos token goes before it


@READINGS.register("packed")
class Packed(Reading):
    """Rows of `length` tokens filled with documents; a row is a list of spans.

    blocks of 1,024 documents in random order ─ pools of 16 blocks ─ packed into rows ─ rows in random order

    A document of m tokens is bos + tokens + eos; where it is longer than a row it goes on in another row, and where
    labels are shifted the next part begins with the last token of the part before, so that each token is predicted.
    """

    def epoch(self, random: np.random.Generator) -> Iterator[list[Span]]:
        blocks = random.permutation((len(self.corpus) + BLOCK - 1) // BLOCK)
        for start in range(0, len(blocks), POOL):
            pieces = [each for block in blocks[start : start + POOL] for each in self._pieces(int(block))]
            rows = self._packed([pieces[int(index)] for index in random.permutation(len(pieces))])
            for index in random.permutation(len(rows)):
                yield rows[index]

    def once(self) -> Iterator[list[Span]]:
        count = (len(self.corpus) + BLOCK - 1) // BLOCK
        for start in range(0, count, POOL):
            blocks = range(start, min(count, start + POOL))
            yield from self._packed([each for block in blocks for each in self._pieces(block)])

    def row(self, plan: list[Span]) -> Pieces:
        return [self._piece(each) for each in plan]

    def _piece(self, span: Span) -> Ids:
        ids = self.corpus.stretch(span.start, span.stop)
        return np.insert(ids, 0, self.frame.bos) if span.begins else ids

    def _pieces(self, block: int) -> Iterator[Span]:
        """The documents of a block, the long ones in parts that fill a row."""
        for start, stop in self.corpus.spans(block * BLOCK, min(len(self.corpus), (block + 1) * BLOCK)).tolist():
            yield from self._cut(start, stop)

    def _cut(self, start: int, stop: int) -> Iterator[Span]:
        shift, step = self.frame.shift, self.length - self.frame.room
        for place in range(start - 1, stop - shift, step):  # place start - 1 is that of bos
            end = min(place + step + shift, stop)
            yield Span(max(place, start), end, begins=place < start)

    def _cost(self, span: Span) -> int:
        return span.stop - span.start + span.begins - self.frame.shift + self.frame.room

    def _packed(self, pieces: list[Span]) -> list[list[Span]]:
        costs = [self._cost(each) for each in pieces]
        return [[pieces[index] for index in row] for row in best_fit(costs, self.length)]


def best_fit(sizes: Iterable[int], capacity: int) -> list[list[int]]:
    """Numbers of items by row: largest first, each into the row with the least room that still holds it."""
    listed = list(sizes)
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # room left and row, sorted
    for index in sorted(range(len(listed)), key=lambda each: -listed[each]):
        place = bisect_left(open_rows, (listed[index], -1))
        room, row = open_rows.pop(place) if place < len(open_rows) else (capacity, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
        insort(open_rows, (room - listed[index], row))
    return rows
