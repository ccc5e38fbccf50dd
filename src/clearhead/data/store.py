"""Token sequences on disk, memory-mapped: memory does not grow with the corpus.

A store is a folder: `tokens.bin` (all ids one after another), `ends.bin` (int64, where each sequence ends) and
`store.json` (number of sequences, id type). It appears as a whole or not at all.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from clearhead.core.errors import DataError
from clearhead.core.files import folder_atomic, read_json, write_json

Ids = npt.NDArray[np.int64]
Dtype = np.dtype[np.integer[Any]]


class Store:
    """Read access to the sequences of a folder."""

    def __init__(self, folder: Path) -> None:
        about = read_json(folder / "store.json", DataError)
        try:
            self.count, dtype = int(about["sequences"]), {"uint16": np.uint16, "uint32": np.uint32}[about["dtype"]]
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(folder, f"{about!r} in store.json") from error
        self._tokens = mapped(folder / "tokens.bin", np.dtype(dtype))
        self._ends = mapped(folder / "ends.bin", np.dtype(np.int64))
        if len(self._ends) != self.count:
            raise damaged(folder, f"{len(self._ends)} sequences", f"{self.count}")
        if len(self._tokens) != (self._ends[-1] if self.count else 0):
            raise damaged(folder, f"{len(self._tokens)} tokens", f"{self._ends[-1] if self.count else 0}")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Ids:
        """The ids of one sequence, counted from 0."""
        if not 0 <= index < self.count:
            raise IndexError(f"no sequence {index} in a store of {self.count}")
        start = int(self._ends[index - 1]) if index else 0
        return self._tokens[start : int(self._ends[index])].astype(np.int64)

    def lengths(self, start: int, stop: int) -> Ids:
        """Lengths in tokens of sequences start, ..., stop - 1."""
        before = int(self._ends[start - 1]) if start else 0
        return np.diff(self._ends[start:stop], prepend=before)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences together."""
        return len(self._tokens)


def write_stores(folder: Path, columns: int, rows: Iterable[tuple[list[int], ...]], vocab: int) -> list[Store]:
    """Write parallel stores `folder/0`, `folder/1`, ... from rows of `columns` sequences each, and open them.

    Args:
        folder: appears when all rows are written; nothing is left behind when `rows` fails.
        columns: sequences in each row.
        rows: read once, never held; ids count from 0.
        vocab: one more than the largest id; decides whether an id takes 2 or 4 bytes.
    """
    dtype = id_type(vocab)
    with folder_atomic(folder) as temporary:
        places = [temporary / str(column) for column in range(columns)]
        for place in places:
            place.mkdir()
        count = _write(places, rows, dtype)
        for place in places:
            write_json(place / "store.json", {"sequences": count, "dtype": dtype.name})
    return open_stores(folder, columns)


def _write(places: list[Path], rows: Iterable[tuple[list[int], ...]], dtype: Dtype) -> int:
    count = 0
    with contextlib.ExitStack() as stack:
        columns = [
            _Column(
                dtype,
                stack.enter_context(open(place / "tokens.bin", "wb")),
                stack.enter_context(open(place / "ends.bin", "wb")),
            )
            for place in places
        ]
        for row in rows:
            for column, ids in zip(columns, row, strict=True):
                column.append(ids)
            count += 1
    return count


class _Column:
    """One store in the making."""

    def __init__(self, dtype: Dtype, tokens: BinaryIO, ends: BinaryIO) -> None:
        self.dtype, self.tokens, self.ends, self.end = dtype, tokens, ends, 0

    def append(self, ids: list[int]) -> None:
        self.end += len(ids)
        self.tokens.write(np.asarray(ids, dtype=self.dtype).tobytes())
        self.ends.write(np.int64(self.end).tobytes())


def open_stores(folder: Path, columns: int) -> list[Store]:
    """Open what `write_stores` wrote."""
    return [Store(folder / str(column)) for column in range(columns)]


def id_type(vocab: int) -> Dtype:
    """The smallest type on disk for ids below `vocab`: 2 or 4 bytes."""
    return np.dtype(np.uint16 if vocab <= 65_536 else np.uint32)


def mapped(path: Path, dtype: Dtype) -> npt.NDArray[np.integer[Any]]:
    """The numbers of a file, read only where they are looked at; a DataError if the file is missing or cut off."""
    try:
        size = path.stat().st_size
        if size % dtype.itemsize:
            raise damaged(path, f"{size} bytes", f"a multiple of {dtype.itemsize}")
        return np.memmap(path, dtype=dtype, mode="r") if size else np.empty(0, dtype=dtype)
    except OSError as error:
        raise damaged(path, (error.strerror or str(error)).lower()) from None


def damaged(where: Path, found: str, expected: str | None = None) -> DataError:
    """What to say of a store that is not as it was written."""
    remedy = "delete the folder of the stores and start the command again: it will be written anew"
    return DataError("damaged token store", where=where, found=found, expected=expected, remedy=remedy)
