"""Files that are either old or new, never half: temporary file, fsync, rename. Disk errors in one line."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clearhead.core.errors import ClearheadError, StorageError


@contextlib.contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn the operating system's errors on writing `path` into a StorageError with a remedy."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "free some disk space or choose another folder with --out",
            errno.EDQUOT: "your disk quota is used up: free some space or choose another folder with --out",
            errno.EACCES: "choose a folder that you may write to",
            errno.EPERM: "choose a folder that you may write to",
            errno.EROFS: "the file system is read-only: choose another folder",
            errno.ENOTDIR: "a file stands where a folder is needed: choose another path",
            errno.EEXIST: "a file stands where a folder is needed: choose another path",
        }.get(error.errno or 0)
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"cannot write: {reason}", where=error.filename or path, remedy=remedy) from error


def make_folder(path: Path) -> Path:
    """Create a folder with its parents; a StorageError if that is not possible."""
    with storage(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace a file as a whole: a kill or a full disk at any moment leaves the old file or the new one."""
    raw = data.encode("utf-8") if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage(path):
        try:
            with open(temporary, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


@contextlib.contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage(path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for each in temporary.rglob("*"):
                if each.is_file():
                    _sync_file(each)
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync_folder(path.parent)


def read_text(path: Path, error: type[ClearheadError]) -> str:
    """A UTF-8 text file; the given kind of error, in one line, when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise error("not UTF-8 text", where=path, found=f"byte {problem.start}") from None
    except OSError as problem:
        raise error((problem.strerror or str(problem)).lower(), where=path) from None


def read_json(path: Path, error: type[ClearheadError]) -> Any:
    """A JSON file; the given kind of error, in one line, when it cannot be read."""
    try:
        return json.loads(read_text(path, error))
    except json.JSONDecodeError as problem:
        raise error(
            "not JSON, or cut off", where=path, found=f"{problem.msg.lower()} at line {problem.lineno}"
        ) from None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically, readable by people; floats keep every bit."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def _sync_file(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
