"""Token sequences on disk, memory-mapped: memory does not grow with the corpus.

A store is a folder: `tokens.bin` (all ids one after another), `ends.bin` (int64, where each sequence ends) and
`store.json` (number of sequences, id type). It appears as a whole or not at all.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clearhead.core.errors import DataError
from clearhead.core.files import folder_atomic, read_json, write_json

Ids = npt.NDArray[np.int64]


class Store:
    """Read access to the sequences of a folder."""

    def __init__(self, folder: Path) -> None:
        about = read_json(folder / "store.json", DataError)
        self.count = int(about["sequences"])
        self._tokens = _mapped(folder / "tokens.bin", np.dtype(about["dtype"]))
        self._ends = _mapped(folder / "ends.bin", np.dtype(np.int64))
        if len(self._ends) != self.count or (self.count and len(self._tokens) != self._ends[-1]):
            raise DataError("damaged token store", where=folder, remedy="delete the folder and start the run anew")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Ids:
        """The ids of one sequence."""
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
    """Write parallel stores `folder/0`, `folder/1`, ... from rows of `columns` sequences each, and open them."""
    dtype = np.dtype(np.uint16 if vocab <= 65_536 else np.uint32)
    with folder_atomic(folder) as temporary:
        places = [temporary / str(column) for column in range(columns)]
        for place in places:
            place.mkdir()
        token_files = [open(place / "tokens.bin", "wb") for place in places]
        end_files = [open(place / "ends.bin", "wb") for place in places]
        ends, count = [0] * columns, 0
        try:
            for row in rows:
                for column, ids in enumerate(row):
                    ends[column] += len(ids)
                    token_files[column].write(np.asarray(ids, dtype=dtype).tobytes())
                    end_files[column].write(np.int64(ends[column]).tobytes())
                count += 1
        finally:
            for file in (*token_files, *end_files):
                file.close()
        for place in places:
            write_json(place / "store.json", {"sequences": count, "dtype": dtype.name})
    return open_stores(folder, columns)


def open_stores(folder: Path, columns: int) -> list[Store]:
    """Open what `write_stores` wrote."""
    return [Store(folder / str(column)) for column in range(columns)]


def _mapped(path: Path, dtype: np.dtype) -> npt.NDArray:  # type: ignore[type-arg]
    try:
        if path.stat().st_size == 0:
            return np.empty(0, dtype=dtype)
        return np.memmap(path, dtype=dtype, mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"damaged token store: {error}", where=path) from None
