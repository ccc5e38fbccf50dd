"""Documents in the records of JSON-lines and Parquet files."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from clearhead.core.errors import DataError, UsageError
from clearhead.data.corpora.base import CORPORA, Document
from clearhead.data.corpora.text import matching
from clearhead.data.sources import read_records

ROWS = 1_024  # rows of a Parquet file that are held together


@CORPORA.register("jsonl")
class JsonlTexts:
    """JSON-lines files (each also .gz), one document a line, under the key `text`; empty texts are passed over."""

    def __init__(self, folder: Path, *, file: str, text: str = "text") -> None:
        self.folder, self.file, self.text = folder, file, text

    def __iter__(self) -> Iterator[Document]:
        for path in matching(self.folder, self.file):
            for where, record in read_records(path):
                yield from _document(record.get(self.text), where, self.text, record)


@CORPORA.register("parquet")
class ParquetTexts:
    """Parquet files, one document a row, in the column `text`; nulls and empty texts are passed over.

    Needs the package pyarrow: pip install 'clearhead[parquet]'.
    """

    def __init__(self, folder: Path, *, file: str, text: str = "text") -> None:
        self.folder, self.file, self.text = folder, file, text

    def __iter__(self) -> Iterator[Document]:
        for path in matching(self.folder, self.file):
            number = 0
            for batch in _batches(path, self.text):
                for value in batch.column(0).to_pylist():
                    number += 1
                    if value is not None:
                        yield from _document(value, f"{path}, row {number}", self.text, {self.text: value})


def _document(value: object, where: str, key: str, record: dict[str, Any]) -> Iterator[Document]:
    if not isinstance(value, str):
        raise DataError(
            "not a text",
            where=where,
            found=f"the keys {', '.join(map(repr, record))}" if key not in record else repr(value),
            expected=f"text in {key!r}",
            remedy="set the option text to the key of the text",
        )
    if value and not value.isspace():
        yield Document(value, where)


def _batches(path: Path, column: str) -> Iterator[Any]:
    try:
        parquet = import_module("pyarrow.parquet")  # an extra: taken up only when such a file is read
    except ImportError:
        raise UsageError(
            "Parquet files need the package pyarrow", where=path, remedy="pip install 'clearhead[parquet]'"
        ) from None
    with _told(path):
        file = parquet.ParquetFile(path)
    if column not in file.schema_arrow.names:
        names = ", ".join(map(repr, file.schema_arrow.names))
        raise DataError(f"no column {column!r}", where=path, found=names, remedy="set the option text")
    batches = file.iter_batches(batch_size=ROWS, columns=[column])
    while True:
        with _told(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """pyarrow's own errors are OSErrors or ValueErrors, without the name of the file."""
    try:
        yield
    except FileNotFoundError:
        raise DataError("no such file", where=path, remedy="check the path") from None
    except (OSError, ValueError) as error:
        raise DataError("not a Parquet file, or damaged", where=path, found=error, remedy="fetch it again") from None
