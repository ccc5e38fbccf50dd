"""What is in a corpus: lines, lengths, duplicates, empty sides. One pass, nothing held but lengths and hashes."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clearhead.core.errors import DataError
from clearhead.core.registry import Choice
from clearhead.data.sources import SOURCES, read_lines, read_records
from clearhead.text import Tokenizer

PERCENTILES = (50, 90, 99, 100)
NAMES = {50: "median", 100: "longest"}
CHUNK = 1_024  # texts that are measured together

Measure = Callable[[list[str]], list[int]]
Row = dict[str, str]


class Column:
    """The texts of one side, or one file, as they pass by."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.lengths: Counter[int] = Counter()
        self.hashes = array("q")
        self.characters = self.empty = 0

    def add(self, texts: list[str]) -> None:
        """Count some more texts."""
        self.lengths.update(self.measure(texts))
        self.hashes.extend(map(hash, texts))
        self.characters += sum(map(len, texts))
        self.empty += sum(not each.strip() for each in texts)

    def facts(self, unit: str) -> dict[str, int | float]:
        """Names and numbers; lengths are in `unit`."""
        total = sum(length * count for length, count in self.lengths.items())
        facts: dict[str, int | float] = {"characters": self.characters, unit: total, "empty": self.empty}
        named = zip(PERCENTILES, self._percentiles(), strict=True)
        facts |= {f"{unit}_{NAMES.get(each, f'p{each}')}": length for each, length in named}
        return facts | {"duplicate_share": duplicates(self.hashes)}

    def _percentiles(self) -> list[int]:
        lengths = np.array(sorted(self.lengths), dtype=np.int64)
        below = np.cumsum([self.lengths[int(each)] for each in lengths])
        ranks = [max(1, -(-int(below[-1]) * each // 100)) for each in PERCENTILES]  # the nearest-rank definition
        return [int(lengths[np.searchsorted(below, rank)]) for rank in ranks]


def duplicates(hashes: "array[int]") -> float:
    """The share of items that repeat an earlier one."""
    values: npt.NDArray[np.int64] = np.frombuffer(hashes, dtype=np.int64)
    return 1.0 - len(np.unique(values)) / len(values) if len(values) else 0.0


def of_source(choice: Choice, folder: Path, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Facts about a data source of a recipe."""
    pairs = SOURCES.build(choice, folder)
    return _facts(({"source": each.source, "target": each.target} for each in pairs), tokenizer, "pairs")


def of_file(path: Path, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Facts about one file: by column for .tsv, by key for .jsonl, as a whole otherwise."""
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    rows = {".tsv": _columns, ".jsonl": _keys}.get(kind, _lines)(path)
    return _facts(rows, tokenizer, "lines")


def of_folder(path: Path, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Facts about each file of a folder, hidden files and folders in it left out."""
    files = sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith("."))
    if not files:
        raise DataError("no files in this folder", where=path)
    return {f"{each.name} {key}": value for each in files for key, value in of_file(each, tokenizer).items()}


def _facts(rows: Iterator[Row], tokenizer: Tokenizer | None, noun: str) -> dict[str, Any]:
    measure = _token_counts(tokenizer) if tokenizer else _character_counts
    columns: dict[str, Column] = {}
    whole, count, same = array("q"), 0, 0
    while chunk := list(islice(rows, CHUNK)):
        count += len(chunk)
        for name in {key: None for row in chunk for key in row}:
            columns.setdefault(name, Column(measure)).add([row[name] for row in chunk if name in row])
        whole.extend(hash(tuple(row.values())) for row in chunk)
        same += sum(len(row) > 1 and len(set(row.values())) == 1 for row in chunk)
    facts: dict[str, Any] = {noun: count}
    if len(columns) > 1:
        facts |= {"duplicate_share": duplicates(whole), "equal_sides_share": same / count}
    unit = "tokens" if tokenizer else "characters"
    for name, column in columns.items():
        prefix = f"{name}_" if name else ""
        facts |= {prefix + key: value for key, value in column.facts(unit).items()}
    return facts


def _token_counts(tokenizer: Tokenizer) -> Measure:
    return lambda texts: [len(each) for each in tokenizer.encode_batch(texts)]


def _character_counts(texts: list[str]) -> list[int]:
    return [len(each) for each in texts]


def _lines(path: Path) -> Iterator[Row]:
    return ({"": line} for _, line in read_lines(path))


def _columns(path: Path) -> Iterator[Row]:
    return ({f"column_{i}": cell for i, cell in enumerate(line.split("\t"))} for _, line in read_lines(path))


def _keys(path: Path) -> Iterator[Row]:
    records = (record for _, record in read_records(path))
    return ({key: value for key, value in record.items() if isinstance(value, str)} for record in records)
