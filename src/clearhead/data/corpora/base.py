"""The doorway of the corpus family: where the texts of a language model come from, read again and again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from clearhead.core.registry import Registry


@dataclass(frozen=True)
class Document:
    """A text with a beginning and an end, or a piece of one that is too long to be held."""

    text: str
    where: str  # file and line, for messages
    last: bool = True  # the document ends with this piece


class Corpus(Protocol):
    """Anything that yields documents, again and again, in the same order. Wiring: the folder of relative paths."""

    def __iter__(self) -> Iterator[Document]: ...


CORPORA: Registry[Corpus] = Registry("corpus")
