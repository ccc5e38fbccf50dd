"""The data sets that Clearhead knows by name: where they come from, under what terms, and how to get them intact.

A record in `catalog.yaml` holds facts and checksums, never text. `get` checks the checksum of the text before it
replaces anything, so a folder holds complete files or none; files that are complete already are not fetched again.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import StringConstraints

from clearhead.core.errors import DataError
from clearhead.core.files import make_folder, write_atomic
from clearhead.core.progress import say
from clearhead.core.recipe import Section
from clearhead.core.registry import Choice, nearest
from clearhead.data import describe as statistics
from clearhead.data.download import fetch, join, sha256, unpacked
from clearhead.text import Tokenizer

Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Published = Annotated[str, StringConstraints(pattern="^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")]


class File(Section):
    """One file of a data set."""

    name: str  # on disk
    url: str  # beneath the base of the record
    download: Published | None = None  # checksum of the bytes as the origin publishes them
    sha256: Digest  # of the text on disk
    bytes: int
    lines: int


class Dataset(Section):
    """What is known of one data set."""

    name: str
    title: str
    task: str
    languages: tuple[str, ...]
    kind: Literal["built-in", "download", "own"]  # own: bring your own file
    licence: str  # and terms, in words
    citation: str
    homepage: str | None = None
    base_url: str | None = None
    white_space: Literal["kept", "single"] = "kept"  # single: runs of it become one space, none at the ends of lines
    format: str | None = None  # what a file that you bring looks like
    use: str | None = None  # as `data.train` in a recipe
    files: tuple[File, ...] = ()


def catalog() -> list[Dataset]:
    """All records, in the order of the file."""
    text = Path(__file__).with_name("catalog.yaml").read_text(encoding="utf-8")
    return [Dataset.model_validate(each) for each in yaml.safe_load(text)]


def dataset(name: str) -> Dataset:
    """The record of that name; a DataError with the nearest name if there is none."""
    records = {each.name: each for each in catalog()}
    if name not in records:
        names = f"one of {', '.join(records)}"
        raise DataError(f"no data set is called {name!r}", expected=names, remedy=nearest(name, records))
    return records[name]


def get(
    name: str,
    folder: Path,
    *,
    base_url: str | None = None,
    progress: Callable[[str], None] = say,
    timeout: float = 30.0,
) -> list[Path]:
    """Fetch the files of a data set into a folder and return their paths.

    Args:
        name: of a record.
        folder: made if it is not there.
        base_url: a mirror instead of the origin: an address (http, https, file) or a folder, with the files packed or
            unpacked.
        progress: called with one line for each file.
        timeout: seconds to wait for a server that says nothing.

    Raises:
        DataError: no such record, nothing to fetch, no network, a file that is missing, cut off or altered.
        StorageError: the folder cannot be written.
    """
    record = dataset(name)
    if record.kind == "own":
        raise DataError(f"{name} cannot be fetched", where=record.homepage, remedy=record.format)
    if record.kind == "built-in":
        progress(f"{name} is part of the package: nothing to fetch; in a recipe, data.train: {record.use}")
        return []
    base = base_url or record.base_url or ""
    make_folder(folder)
    return [_get(each, record, folder / each.name, base, progress, timeout) for each in record.files]


def _get(file: File, record: Dataset, path: Path, base: str, progress: Callable[[str], None], timeout: float) -> Path:
    if path.is_file() and path.stat().st_size == file.bytes and sha256(path.read_bytes()) == file.sha256:
        progress(f"{path}: complete already")
        return path
    url, raw = _fetched(file, record, base, timeout)
    text = _as_on_disk(unpacked(raw, limit=_limit(file), where=url), record, url)
    if sha256(text) != file.sha256:
        raise _altered(file, raw, text, url)
    write_atomic(path, text)
    progress(f"{path}: {file.lines:,} lines")
    return path


def _fetched(file: File, record: Dataset, base: str, timeout: float) -> tuple[str, bytes]:
    """The address that had the file, and its bytes; a mirror may hold the text unpacked."""
    addresses = list(dict.fromkeys([join(base, file.url), join(base, file.name)]))
    for url in addresses if base != record.base_url else addresses[:1]:
        raw = fetch(url, limit=_limit(file), timeout=timeout)
        if raw is not None:
            return url, raw
    where = f"see whether the set has moved: {record.homepage}" if base == record.base_url else "check the base URL"
    raise DataError("the file is not there", where=addresses[0], remedy=where)


def _limit(file: File) -> int:
    return 2 * file.bytes + 100_000  # white space may shrink on the way


def _as_on_disk(text: bytes, record: Dataset, url: str) -> bytes:
    if record.white_space == "kept":
        return text
    try:
        lines = text.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8 text", where=url, found=f"byte {error.start}", remedy="try again later") from None
    return "".join(" ".join(line.split()) + "\n" for line in lines).encode("utf-8")


def _altered(file: File, raw: bytes, text: bytes, url: str) -> DataError:
    kind, _, digest = (file.download or "").partition(":")
    as_published = bool(kind) and hashlib.new(kind, raw, usedforsecurity=False).hexdigest() == digest
    remedy = (
        "the file is the published one, so the record is at fault: please report it"
        if as_published
        else "the transfer was damaged or the original has changed: try again, or take another base URL"
    )
    return DataError(
        "wrong checksum, nothing was written",
        where=url,
        found=f"{sha256(text)} ({len(text):,} bytes)",
        expected=f"{file.sha256} ({file.bytes:,} bytes)",
        remedy=remedy,
    )


def describe(what: str | Path | Choice, folder: Path = Path(), *, tokenizer: Tokenizer | None = None) -> dict[str, Any]:
    """Facts about a data set, a data source, a file or a folder, as names and plain values.

    Args:
        what: the name of a record, giving its terms and origin; a data source as in a recipe, such as
            `Choice(kind="tsv", options={"file": "pairs.tsv"})`; the path of a file (.tsv, .jsonl, other text; each
            also .gz) or of a folder of such files, giving lines, lengths and duplicates. The numbers are named after
            file and side: `source_characters_p99`, `train.tsv column_0_empty`.
        folder: where relative paths begin.
        tokenizer: counts lengths in its tokens; without one they are in characters.

    Raises:
        DataError: there is no such thing, or it cannot be read.
    """
    if isinstance(what, Choice):
        return statistics.of_source(what, folder, tokenizer)
    if isinstance(what, str) and what in (each.name for each in catalog()):
        return _facts(dataset(what))
    path = folder / what
    if not path.exists():
        names = [each.name for each in catalog()]
        raise DataError(
            "no such file or folder, nor a data set of that name", where=path, remedy=nearest(str(what), names)
        )
    return statistics.of_folder(path, tokenizer) if path.is_dir() else statistics.of_file(path, tokenizer)


def _facts(record: Dataset) -> dict[str, Any]:
    facts = record.model_dump(mode="json", exclude={"files", "languages", "white_space"}, exclude_none=True)
    facts["languages"] = ", ".join(record.languages)
    facts |= {each.name: f"{each.lines:,} lines, {each.bytes:,} bytes" for each in record.files}
    return facts
