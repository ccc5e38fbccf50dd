"""Texts to sentences and back, for models that were trained on sentences. Lines stay lines."""

import re
from collections.abc import Sequence

BREAKS = re.compile(r"([\r\n\u2028\u2029]+)")
ENDS = re.compile(
    r"(?<=[。！？])(?=[^。！？”’」』）)\s])|(?<=[.!?…])\s+(?=[^\W\d_a-z]|[\"“‘(¿¡])|(?<=[.!?…][\"”’)])\s+"
)
SHORT = frozenset({"mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "vs", "no", "fig", "z.b", "bzw", "e.g", "i.e"})
UNSPACED = frozenset({"zh", "ja"})  # languages whose sentences follow each other without a space


class Sentences:
    """A text cut into sentences, each to be replaced by another.

    Args:
        text: any.
    """

    def __init__(self, text: str) -> None:
        parts = BREAKS.split(text)  # line, break, line, break, ..., line
        self._lines = [_sentences(each) for each in parts[::2]]
        self._breaks = [*parts[1::2], ""]

    @property
    def all(self) -> list[str]:
        """The sentences in their order."""
        return [each for line in self._lines for each in line]

    def replaced(self, sentences: Sequence[str], language: str | None = None) -> str:
        """The text of as many other sentences, in a language."""
        between, left = "" if language in UNSPACED else " ", iter(sentences)
        lines = [between.join(next(left) for _ in line) for line in self._lines]
        return "".join(line + end for line, end in zip(lines, self._breaks, strict=True))


def _sentences(line: str) -> list[str]:
    """The sentences of a line; a dot after a title or a single letter ends none."""
    found: list[str] = []
    for part in ENDS.split(line):
        if found and _goes_on(found[-1]):
            found[-1] += f" {part}"
        elif part.strip():
            found.append(part.strip())
    return found


def _goes_on(text: str) -> bool:
    words = text.split()
    last = words[-1] if words else ""
    word = last.rstrip(".").lstrip("(\"'“‘").lower()
    return last.endswith(".") and (word in SHORT or (len(word) == 1 and word.isalpha()))
