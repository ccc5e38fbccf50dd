"""Every text file of a folder and of the folders in it."""

from collections.abc import Iterator
from pathlib import Path

from clearhead.core.errors import DataError
from clearhead.core.registry import Choice
from clearhead.data.corpora.base import CORPORA, Document
from clearhead.data.corpora.text import Unit

READERS = {".txt": "text", ".md": "text", ".text": "text", ".jsonl": "jsonl", ".parquet": "parquet"}


@CORPORA.register("folder")
class Folder:
    """The .txt, .md, .text, .jsonl (each also .gz) and .parquet files beneath a path, in the order of their names.

    Args:
        path: beneath the data folder.
        document: what one document of a plain text file is: `file`, `paragraph` or `line`.
        text: key or column of the text in .jsonl and .parquet files.
    """

    def __init__(self, folder: Path, *, path: str = ".", document: Unit = "file", text: str = "text") -> None:
        self.folder = folder / path
        self.options: dict[str, dict[str, str]] = {
            "text": {"document": document},
            "jsonl": {"text": text},
            "parquet": {"text": text},
        }

    def __iter__(self) -> Iterator[Document]:
        for path in self.files():
            reader = READERS[_kind(path)]
            options = {"file": path.name, **self.options[reader]}
            yield from CORPORA.build(Choice(kind=reader, options=options), path.parent)

    def files(self) -> list[Path]:
        """The files that are read; hidden ones and other kinds are left out."""
        if not self.folder.is_dir():
            raise DataError("no such folder", where=self.folder, remedy="data.folder is where paths begin")
        beneath = (each for each in self.folder.rglob("*") if each.is_file() and _kind(each) in READERS)
        shown = (each.relative_to(self.folder).parts for each in beneath)
        found = sorted(parts for parts in shown if not any(name.startswith(".") for name in parts))
        if not found:
            raise DataError("no text file in this folder", where=self.folder, expected=f"one of {', '.join(READERS)}")
        return [self.folder.joinpath(*parts) for parts in found]


def _kind(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
