"""Texts with a class each: TSV and JSON-lines files (each also .gz)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
import torch
from pydantic import Field

from clearhead.core.errors import DataError
from clearhead.core.registry import Registry, nearest
from clearhead.data.sources import read_lines, read_records
from clearhead.data.store import Ids
from clearhead.data.text_batches import LabelledBatch, laid
from clearhead.text import Tokenizer


@dataclass(frozen=True)
class Labelled:
    """A text, or a pair of texts, and its class."""

    text: str
    label: str
    where: str  # file and line, for messages
    other: str | None = None  # the second text of a pair


class LabelledSource(Protocol):
    """Anything that yields labelled texts, again and again, in the same order. Wiring: the folder of relative paths."""

    def __iter__(self) -> Iterator[Labelled]: ...


LABELLED: Registry[LabelledSource] = Registry("labelled source")

Column = Annotated[int, Field(ge=0)]


@LABELLED.register("tsv")
class LabelledTsv:
    """A file with tab-separated columns and no quoting; columns are counted from 0.

    Args:
        file: path beneath the data folder.
        text, label: their columns.
        other: column of the second text of a pair; null = there is none.
        header: whether the first line holds names.
    """

    def __init__(
        self,
        folder: Path,
        *,
        file: str,
        text: Column = 0,
        label: Column = 1,
        other: Column | None = None,
        header: bool = False,
    ) -> None:
        self.file, self.columns, self.header = folder / file, (text, label, other), header

    def __iter__(self) -> Iterator[Labelled]:
        text, label, other = self.columns
        needed = 1 + max(each for each in self.columns if each is not None)
        for number, line in read_lines(self.file):
            if self.header and number == 1:
                continue
            cells, where = line.split("\t"), f"{self.file}, line {number}"
            if len(cells) < needed:
                what = "too few tab-separated columns" if line else "an empty line"
                expected, remedy = f"at least {needed}", "mend or delete the line"
                raise DataError(what, where=where, found=len(cells), expected=expected, remedy=remedy)
            yield Labelled(cells[text], cells[label], where, None if other is None else cells[other])


@LABELLED.register("jsonl")
class LabelledJsonl:
    """One JSON object a line; a class is a text or a whole number. Blank lines are passed over.

    Args:
        file: path beneath the data folder.
        text, label: their keys.
        other: key of the second text of a pair; null = there is none.
    """

    def __init__(
        self, folder: Path, *, file: str, text: str = "text", label: str = "label", other: str | None = None
    ) -> None:
        self.file, self.text, self.label, self.other = folder / file, text, label, other

    def __iter__(self) -> Iterator[Labelled]:
        for where, record in read_records(self.file):
            texts = [record.get(each) for each in (self.text, self.other) if each is not None]
            label = record.get(self.label)
            if not all(isinstance(each, str) for each in texts) or isinstance(label, (bool, float)) or label is None:
                keys = ", ".join(repr(each) for each in (self.text, self.other, self.label) if each)
                found = f"the keys {', '.join(map(repr, record))}" if record else "no keys"
                remedy = "set the options text and label to the keys"
                raise DataError("not a labelled text", where=where, found=found, expected=keys, remedy=remedy)
            yield Labelled(str(texts[0]), str(label), where, str(texts[1]) if self.other else None)


def class_names(examples: Iterable[Labelled]) -> list[str]:
    """The classes, sorted; numbers by their value."""
    found = {each.label for each in examples}
    return sorted(found, key=lambda each: (0, int(each), each) if each.isdecimal() else (1, 0, each))


def class_number(example: Labelled, names: Sequence[str]) -> int:
    """The place of its class among the names; a DataError for a class that training did not have."""
    if example.label not in names:
        expected = f"one of {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        raise DataError(
            "a class that the training data does not have",
            where=example.where,
            found=repr(example.label),
            expected=expected,
            remedy=nearest(example.label, names) or "check the column of the label",
        )
    return names.index(example.label)


def encoded(examples: Sequence[Labelled], tokenizer: Tokenizer, limit: int) -> list[Ids]:
    """cls text sep, or cls text sep other sep; the longer text is cut at its end until all fit into `limit` tokens."""
    cls, sep = tokenizer.need("cls"), tokenizer.need("sep")
    texts = tokenizer.encode_batch([each.text for each in examples])
    others = tokenizer.encode_batch([each.other or "" for each in examples])
    rows = []
    for example, first, second in zip(examples, texts, others, strict=True):
        parts = [first] if example.other is None else [first, second]
        room = limit - 1 - len(parts)
        while sum(map(len, parts)) > room:
            max(parts, key=len).pop()
        rows.append(np.asarray([cls, *(each for part in parts for each in (*part, sep))], dtype=np.int64))
    return rows


def labelled_batch(rows: Sequence[Ids], labels: Sequence[int], *, pad: int, sep: int | None) -> LabelledBatch:
    """Collate rows; `sep`: the token that ends the first text, where there are pairs."""
    lengths = torch.tensor([len(each) for each in rows])
    width = int(lengths.max())
    valid = torch.arange(width) < lengths[:, None]
    types = None
    if sep is not None:
        types = laid([[_types(each, sep)] for each in rows], width, 0)
    return LabelledBatch(
        tokens=len(rows),
        ids=laid([[each] for each in rows], width, pad),
        valid=None if bool(valid.all()) else valid,
        types=types,
        labels=torch.tensor(list(labels)),
    )


def _types(row: Ids, sep: int) -> Ids:
    """1 after the first sep."""
    types: Ids = (np.cumsum(row == sep) - (row == sep) > 0).astype(np.int64)
    return types
