"""A corpus as token ids on disk, memory-mapped: memory does not grow with it, and a kill costs at most one shard.

corpus.json                  appears last: number of shards, sequences, tokens, bytes of text, what wrote them
shard-00000/tokens.bin       ids one after another, uint16 or uint32
shard-00000/ends.bin         int64, where sequences end, counted in this shard
shard-00000/shard.json       what it holds, and how many documents had been read when it was full

A sequence may begin in one shard and end in a later one: only its end is marked.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clearhead.core.errors import DataError
from clearhead.core.files import folder_atomic, read_json, write_json
from clearhead.core.progress import track
from clearhead.data.corpora import Document
from clearhead.data.store import Dtype, Ids, damaged, id_type, mapped
from clearhead.text import Tokenizer

SHARD = 1 << 24  # tokens of one shard
CHUNK = 1 << 22  # characters that are encoded together

Unit = tuple[str, int]  # a text, and how many sequence ends stand after it: 0, 1, or 2 where an empty one follows
Units = Callable[[Document], list[Unit]]


def whole_documents(document: Document) -> list[Unit]:
    """A document is one sequence."""
    return [(document.text, int(document.last))]


class TokenCorpus:
    """Read access to sequences of ids that lie one after another; a DataError for a folder that is damaged."""

    def __init__(self, folder: Path) -> None:
        about = read_json(folder / "corpus.json", DataError)
        try:
            self.tokens, self.sequences, self.bytes = (int(about[key]) for key in ("tokens", "sequences", "bytes"))
            names = [_name(number) for number in range(int(about["shards"]))]
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(folder, f"{about!r} in corpus.json") from error
        shards = [_Shard(folder / name) for name in names]
        self._tokens, self._ends = [each.ids for each in shards], [each.ends for each in shards]
        self._first_token = np.cumsum([0, *(len(each) for each in self._tokens)])
        self._first_end = np.cumsum([0, *(len(each) for each in self._ends)])
        if (int(self._first_token[-1]), int(self._first_end[-1])) != (self.tokens, self.sequences):
            raise damaged(folder, f"{self._first_token[-1]} tokens", f"{self.tokens}")

    def __len__(self) -> int:
        return self.sequences

    def stretch(self, start: int, stop: int) -> Ids:
        """The ids from token `start` up to token `stop` of the corpus, wherever sequences end."""
        return _joined(self._tokens, self._first_token, start, stop).astype(np.int64)

    def ends(self, start: int, stop: int) -> Ids:
        """Where sequences start, ..., stop - 1 end, as numbers of tokens from the beginning of the corpus."""
        local = _joined(self._ends, self._first_end, start, stop).astype(np.int64)
        shard = np.searchsorted(self._first_end, np.arange(start, stop), side="right") - 1
        ends: Ids = local + self._first_token[shard]
        return ends

    def spans(self, start: int, stop: int) -> Ids:
        """First token and end of sequences start, ..., stop - 1, (sequences, 2)."""
        ends = self.ends(start, stop)
        before = self.ends(start - 1, start) if start else np.zeros(1, dtype=np.int64)
        return np.stack([np.concatenate([before, ends])[:-1], ends], axis=1)


class _Shard:
    """The arrays of one shard."""

    def __init__(self, folder: Path) -> None:
        about = read_json(folder / "shard.json", DataError)
        try:
            dtype = {"uint16": np.uint16, "uint32": np.uint32}[about["dtype"]]
            counts = int(about["tokens"]), int(about["sequences"])
            self.documents, self.bytes = int(about["documents"]), int(about["bytes"])
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(folder, f"{about!r} in shard.json") from error
        self.ids, self.ends = mapped(folder / "tokens.bin", np.dtype(dtype)), mapped(folder / "ends.bin", _INT64)
        if (len(self.ids), len(self.ends)) != counts:
            found = f"{len(self.ids)} tokens, {len(self.ends)} sequences"
            raise damaged(folder, found, f"{counts[0]} and {counts[1]}")


_INT64 = np.dtype(np.int64)


def _joined(parts: list[npt.NDArray[Any]], firsts: Ids, start: int, stop: int) -> npt.NDArray[Any]:
    """Elements start, ..., stop - 1 of arrays that follow each other; part N begins at number firsts[N]."""
    if not 0 <= start <= stop <= firsts[-1]:
        raise IndexError(f"no stretch from {start} to {stop} among {firsts[-1]}")
    found = []
    index = int(np.searchsorted(firsts, start, side="right")) - 1
    while start < stop:
        end = min(stop, int(firsts[index + 1]))
        found.append(parts[index][start - firsts[index] : end - firsts[index]])
        start, index = end, index + 1
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def write_corpus(
    folder: Path,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    units: Units = whole_documents,
    close: bool = True,
    shard_tokens: int = SHARD,
) -> TokenCorpus:
    """Encode a corpus, or go on where a kill has stopped it, or open it where it is complete.

    Args:
        folder: of the corpus.
        documents: read once, never held; those that complete shards hold already are passed over.
        tokenizer: its ids are stored.
        units: how a document is cut into sequences.
        close: whether the eos token stands at the end of each sequence.
        shard_tokens: a shard is written as soon as it has so many.

    Raises:
        DataError: the folder was written by another tokenizer or for another reading, or it is damaged.
    """
    mark = hashlib.sha256(f"{tokenizer.to_json()}/{units.__qualname__}/{close}".encode()).hexdigest()
    if (folder / "corpus.json").exists():
        _require_same(folder / "corpus.json", mark)
        return TokenCorpus(folder)
    shards = list(_complete(folder, mark))
    done = shards[-1].documents if shards else 0
    writer = _Writer(folder, mark, id_type(tokenizer.vocab_size), len(shards), done)
    end = [tokenizer.need("eos")] if close else []
    with track("encoding documents", None, start=done) as bar:
        for chunk in _chunks(islice(documents, done, None)):
            for document, sequences in _encoded(chunk, tokenizer, units, end):
                writer.add(document, sequences)
                if writer.count >= shard_tokens:
                    writer.flush()
            bar(writer.documents)
    writer.flush()
    shards = [_Shard(folder / _name(number)) for number in range(writer.number)]
    totals = {"sequences": sum(len(each.ends) for each in shards), "tokens": sum(len(each.ids) for each in shards)}
    totals |= {"shards": len(shards), "bytes": sum(each.bytes for each in shards)}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "corpus.json", {**totals, "written_by": mark})
    return TokenCorpus(folder)


def _complete(folder: Path, mark: str) -> Iterator[_Shard]:
    """The shards that an earlier part of the work has left, in order."""
    number = 0
    while (folder / _name(number) / "shard.json").exists():
        _require_same(folder / _name(number) / "shard.json", mark)
        yield _Shard(folder / _name(number))
        number += 1


def _require_same(path: Path, mark: str) -> None:
    about = read_json(path, DataError)
    if not isinstance(about, dict) or about.get("written_by") != mark:
        remedy = "delete the folder and start again: it will be written anew"
        raise DataError("these tokens are of another tokenizer or reading", where=path.parent, remedy=remedy)


def _name(number: int) -> str:
    return f"shard-{number:05d}"


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    size = 0
    for each in documents:
        chunk.append(each)
        size += len(each.text)
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


Sequences = list[tuple[list[int], int]]  # ids, and the sequence ends after them


def _encoded(
    chunk: list[Document], tokenizer: Tokenizer, units: Units, end: list[int]
) -> Iterator[tuple[Document, Sequences]]:
    cut = [units(each) for each in chunk]
    ids = iter(tokenizer.encode_batch([text for each in cut for text, _ in each]))
    for document, parts in zip(chunk, cut, strict=True):
        yield document, [(next(ids) + (end if count else []), count) for _, count in parts]


@dataclass
class _Writer:
    """The shard in the making."""

    folder: Path
    mark: str
    dtype: Dtype
    number: int  # of the next shard
    documents: int  # read so far, pieces of long ones counted each
    count: int = 0
    bytes: int = 0
    ids: list[npt.NDArray[Any]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def add(self, document: Document, sequences: Sequences) -> None:
        for ids, ends in sequences:
            self.ids.append(np.asarray(ids, dtype=self.dtype))
            self.count += len(ids)
            self.ends += [self.count] * ends
        self.documents += 1
        self.bytes += len(document.text.encode())

    def flush(self) -> None:
        """Write the shard as a whole."""
        if not self.count and not self.ends:
            return
        about = {"tokens": self.count, "sequences": len(self.ends), "documents": self.documents, "bytes": self.bytes}
        with folder_atomic(self.folder / _name(self.number)) as new:
            np.concatenate(self.ids).tofile(new / "tokens.bin")
            np.asarray(self.ends, dtype=np.int64).tofile(new / "ends.bin")
            write_json(new / "shard.json", {**about, "dtype": self.dtype.name, "written_by": self.mark})
        self.number, self.count, self.bytes, self.ids, self.ends = self.number + 1, 0, 0, [], []
