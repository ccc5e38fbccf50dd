"""Plain text files, each also .gz; memory holds one piece, never a file."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from clearhead.core.errors import ConfigError, DataError
from clearhead.data.corpora.base import CORPORA, Document
from clearhead.data.sources import read_lines

PIECE = 1 << 20  # characters of a long document that are held together

Unit = Literal["file", "paragraph", "line"]


@CORPORA.register("text")
class Text:
    """Text files of one name or pattern (`*.txt`), in the order of their names; line ends stay inside a document.

    Args:
        file: path or pattern beneath the data folder.
        document: what one document is: a whole file, a paragraph (blank lines between), or a line.
    """

    def __init__(self, folder: Path, *, file: str, document: Unit = "file") -> None:
        self.folder, self.file, self.document = folder, file, document

    def __iter__(self) -> Iterator[Document]:
        for path in matching(self.folder, self.file):
            yield from UNITS[self.document](path)


@CORPORA.register("chapters")
class Chapters:
    """Text files in which a document begins at each line that matches a regular expression, its heading.

    Args:
        file: path or pattern beneath the data folder.
        heading: searched for in each line; `^第.+回` for chapters of a Chinese novel, `^ = [^=]` for WikiText.
    """

    def __init__(self, folder: Path, *, file: str, heading: str) -> None:
        self.folder, self.file, self.heading = folder, file, _pattern(heading)

    def __iter__(self) -> Iterator[Document]:
        for path in matching(self.folder, self.file):
            yield from gathered(path, lambda line: bool(self.heading.search(line)))


def matching(folder: Path, pattern: str) -> list[Path]:
    """The files of a name or pattern, sorted; a name that is no pattern is given back as it is."""
    if not any(each in pattern for each in "*?["):
        return [folder / pattern]
    found = sorted(each for each in folder.glob(pattern) if each.is_file())
    if not found:
        remedy = "check the pattern; data.folder is where paths begin"
        raise DataError("no file matches this pattern", where=folder / pattern, remedy=remedy)
    return found


def whole(path: Path) -> Iterator[Document]:
    """The file as one document, in pieces that end with a line."""
    yield from gathered(path, lambda line: False)


def lines(path: Path) -> Iterator[Document]:
    """Each line that is not blank, without its line end."""
    for number, line in read_lines(path):
        if line and not line.isspace():
            yield Document(line, f"{path}, line {number}")


def paragraphs(path: Path) -> Iterator[Document]:
    """Lines between blank lines."""
    held: list[str] = []
    first = 1
    for number, line in read_lines(path):
        if line and not line.isspace():
            first = first if held else number
            held.append(line)
        elif held:
            yield Document("\n".join(held), f"{path}, line {first}")
            held = []
    if held:
        yield Document("\n".join(held), f"{path}, line {first}")


UNITS = {"file": whole, "paragraph": paragraphs, "line": lines}


def gathered(path: Path, begins: Callable[[str], bool]) -> Iterator[Document]:
    """Lines with their line ends, gathered into documents, and long documents into pieces.

    What stands before the first beginning is a document of its own. A document of nothing but white space is left out.
    """
    held: list[str] = []
    size, first, open_ = 0, 1, False  # open_: a piece of this document has been given out
    for number, line in read_lines(path):
        new = begins(line)
        if held and (new or size >= PIECE):
            text = "".join(held)
            if open_ or not text.isspace():
                yield Document(text, f"{path}, line {first}", last=new)
                open_ = not new
            held, size, first = [], 0, number
        held.append(line + "\n")
        size += len(line) + 1
    text = "".join(held)
    if open_ or (text and not text.isspace()):
        yield Document(text, f"{path}, line {first}")


def _pattern(heading: str) -> re.Pattern[str]:
    try:
        return re.compile(heading)
    except re.error as error:
        raise ConfigError("not a regular expression", where="heading", found=f"{heading!r}: {error}") from None
