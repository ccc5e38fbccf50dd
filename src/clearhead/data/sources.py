"""Where sentence pairs come from: aligned text files, TSV, JSONL (each also .gz), the embedded grammar."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field, PositiveInt

from clearhead.core.errors import DataError
from clearhead.core.registry import Registry
from clearhead.data.grammar import embedded_pairs


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation, with the place they come from."""

    source: str
    target: str
    where: str  # file and line, for messages


class PairSource(Protocol):
    """Anything that yields pairs, again and again, in the same order. Wiring: the folder of relative paths."""

    def __iter__(self) -> Iterator[Pair]: ...


SOURCES: Registry[PairSource] = Registry("data source")

Column = Annotated[int, Field(ge=0)]


@SOURCES.register("parallel")
class Parallel:
    """Two text files; line N of one is the translation of line N of the other."""

    def __init__(self, folder: Path, *, source: str, target: str) -> None:
        self.source, self.target = folder / source, folder / target

    def __iter__(self) -> Iterator[Pair]:
        sources, targets = read_lines(self.source), read_lines(self.target)
        for number, source in sources:
            _, target = next(targets, (0, None))
            if target is None:
                rest = 1 + sum(1 for _ in sources)
                raise _unequal(self.source, number - 1 + rest, self.target, number - 1)
            yield Pair(source, target, f"{self.source}, line {number}")
        for number, _ in targets:
            rest = sum(1 for _ in targets)
            raise _unequal(self.source, number - 1, self.target, number + rest)


@SOURCES.register("tsv")
class Tsv:
    """One file with tab-separated columns and no quoting; columns are counted from 0."""

    def __init__(self, folder: Path, *, file: str, source: Column = 0, target: Column = 1) -> None:
        self.file, self.source, self.target = folder / file, source, target

    def __iter__(self) -> Iterator[Pair]:
        for number, line in read_lines(self.file):
            cells = line.split("\t")
            where = f"{self.file}, line {number}"
            if max(self.source, self.target) >= len(cells):
                raise DataError(
                    "too few tab-separated columns" if line else "an empty line",
                    where=where,
                    found=f"{len(cells)}",
                    expected=f"at least {max(self.source, self.target) + 1}",
                    remedy="mend or delete the line",
                )
            yield Pair(cells[self.source], cells[self.target], where)


@SOURCES.register("jsonl")
class Jsonl:
    """One JSON object a line; `source` and `target` are the keys of the two texts. Blank lines are passed over."""

    def __init__(self, folder: Path, *, file: str, source: str = "source", target: str = "target") -> None:
        self.file, self.source, self.target = folder / file, source, target

    def __iter__(self) -> Iterator[Pair]:
        for where, record in read_records(self.file):
            texts = [record.get(key) for key in (self.source, self.target)]
            if not all(isinstance(each, str) for each in texts):
                raise DataError(
                    "not a pair",
                    where=where,
                    found=f"the keys {', '.join(map(repr, record))}" if record else "no keys",
                    expected=f"text in {self.source!r} and {self.target!r}",
                    remedy="set the options source and target to the keys of the two texts",
                )
            yield Pair(str(texts[0]), str(texts[1]), where)


@SOURCES.register("embedded")
class Embedded:
    """Pairs of the Chinese-English grammar that lies in the package; `reverse` makes English the source."""

    def __init__(
        self,
        folder: Path,
        *,
        split: Literal["train", "valid", "test"],
        pairs: PositiveInt = 30_000,
        seed: int = 1,
        reverse: bool = False,
    ) -> None:
        self.split, self.pairs, self.seed, self.reverse = split, pairs, seed, reverse

    def __iter__(self) -> Iterator[Pair]:
        for number, each in enumerate(embedded_pairs(self.split, self.pairs, self.seed), start=1):
            texts = (each.en, each.zh) if self.reverse else (each.zh, each.en)
            yield Pair(*texts, f"embedded {self.split}, pair {number}")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number from 1 and text of each line of a UTF-8 file, plain or .gz; only newlines end lines.

    Raises:
        DataError: a missing, truncated or undecodable file, with the line where that shows.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                yield number, raw.rstrip(b"\r\n").decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            "not UTF-8 text",
            where=f"{path}, line {number}",
            found=f"byte 0x{error.object[error.start]:02x} at position {error.start}",
            remedy=_remedy(error.object) if number == 1 else CONVERT,
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError("a damaged or truncated .gz file", where=f"{path}, line {number + 1}", found=error) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(reason, where=path, remedy="check the path; data.folder is where paths begin") from None


CONVERT = "convert the file, e.g. with iconv"


def _remedy(beginning: bytes) -> str:
    if beginning.startswith(b"\x1f\x8b"):
        return "this is gzip: give the file a name that ends in .gz"
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "this is UTF-16: convert it, e.g. with iconv -f UTF-16 -t UTF-8"
    return CONVERT


def read_records(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """File and line, and the object on that line, of a JSON-lines file; blank lines are passed over.

    Raises:
        DataError: what `read_lines` raises, a line that is no JSON object, half a surrogate pair in a text.
    """
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        if not line or line.isspace():
            continue
        try:
            record = json.loads(line)
            if "\\u" in line:
                json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise DataError("half a surrogate pair in a text", where=where, remedy="mend or delete the line") from None
        except json.JSONDecodeError as error:
            found = f"{error.msg.lower()} at character {error.pos}"
            raise DataError("not JSON", where=where, found=found) from None
        except (ValueError, RecursionError) as error:
            raise DataError("not JSON that can be read", where=where, found=error) from None
        if not isinstance(record, dict):
            raise DataError("not a JSON object", where=where, found=f"a {type(record).__name__}", expected="{...}")
        yield where, record


def _unequal(source: Path, source_lines: int, target: Path, target_lines: int) -> DataError:
    return DataError(
        "the two files are not aligned",
        where=f"{source} and {target}",
        found=f"{source_lines} and {target_lines} lines",
        expected="line N of one to be the translation of line N of the other",
    )


def require_pairs(source: PairSource, name: str) -> None:
    """Refuse a source without a single pair before any work is done."""
    for _ in source:
        return
    raise DataError("no sentence pairs", where=name, remedy="an empty file cannot be learned from")
