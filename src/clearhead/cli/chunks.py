"""Texts of a command in chunks that are computed together, and where each of them stands."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from clearhead.cli.lines import relocated, standard_input, text_number
from clearhead.core.errors import DataError

FEW = 16  # texts of the first chunk; the next ones are twice as large each, so that the first answers come soon


@dataclass(frozen=True)
class Chunk:
    """Some texts in a row."""

    texts: list[str]
    first: int  # number of the first one, counted from 1
    name: str  # of a place, such as `standard input, line`

    def place(self, index: int) -> str:
        """Where the text at this index of the chunk stands."""
        return f"{self.name} {self.first + index}"

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Inside the block an error about `text 3` of the chunk names its place in the input."""
        try:
            yield
        except DataError as error:
            number = text_number(error)
            raise error if number is None else relocated(error, self.place(number - 1)) from None


def chunks(texts: list[str] | None, name: str, *, most: int) -> Iterator[Chunk]:
    """The texts given as arguments, or else the lines of standard input.

    Args:
        name: of a text that is an argument.
        most: texts in a chunk.
    """
    person = not texts and sys.stdin.isatty()  # waits for an answer to each line
    place, lines = (name, iter(texts)) if texts else ("standard input, line", standard_input())
    size, first = 1 if person else min(FEW, most), 1
    while chunk := list(islice(lines, size)):
        yield Chunk(chunk, first, place)
        size, first = 1 if person else min(2 * size, most), first + len(chunk)
