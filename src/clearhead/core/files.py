"""Files that are either old or new, never half: temporary file, fsync, rename. Disk errors in one line.

A process that is killed leaves `.NAME.PID.tmp` beside the file or folder it was writing, and perhaps `.NAME.PID.old`;
the next write of the same name removes them, and puts an old folder back whose successor never arrived.
"""

import contextlib
import errno
import glob
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
            errno.ENOENT: "the folder it belongs in is not there, or cannot be made",
            errno.ENOTDIR: "a file stands where a folder is needed: choose another path",
            errno.EEXIST: "a file stands where a folder is needed: choose another path",
            errno.EISDIR: "a folder stands where a file is needed: choose another path",
            errno.ENAMETOOLONG: "choose a shorter name",
        }.get(error.errno or 0)
        reason = (error.strerror or str(error)).lower()
        where = _file_in_the_way(path) if error.errno in (errno.ENOTDIR, errno.EEXIST) else path
        raise StorageError(f"cannot write: {reason}", where=where, remedy=remedy) from error


def make_folder(path: Path) -> Path:
    """Create a folder with its parents; a StorageError if that is not possible."""
    with storage(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def require_space(folder: Path, needed: int, what: str, remedy: str) -> None:
    """Refuse to begin writing `what`, so many bytes, where the disk has no room for it."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        found, expected = f"{free / 1e6:.0f} MB free", f"{needed / 1e6:.0f} MB"
        raise StorageError(
            f"not enough disk space for {what}", where=folder, found=found, expected=expected, remedy=remedy
        )


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace a file as a whole: a kill or a full disk at any moment leaves the old file or the new one."""
    raw = data.encode("utf-8") if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage(path):
        recover(path)
        try:
            with open(temporary, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):  # what went wrong before matters more
                temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


@contextlib.contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends well, and vanishes when it does not.

    An old folder of that name is moved aside, never deleted, until the new one is in its place.
    """
    path = path.resolve() if path.is_symlink() else path
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage(path):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        recover(path)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            _sync_tree(temporary)
            _exchange(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync_folder(path.parent)


def recover(path: Path) -> None:
    """Clear up after processes that were killed while they wrote `path`; a missing old folder comes back."""
    for each in sorted(path.parent.glob(f".{glob.escape(path.name)}.*")):
        owner, _, role = each.name.removeprefix(f".{path.name}.").partition(".")
        if not owner.isdecimal() or role not in ("tmp", "old") or _busy(int(owner), role):
            continue
        if role == "old" and not path.exists():
            each.replace(path)
        elif each.is_dir():
            shutil.rmtree(each, ignore_errors=True)
        else:
            each.unlink(missing_ok=True)


def _exchange(new: Path, path: Path) -> None:
    """Put the folder `new` in the place of `path`; a kill between the two renames is mended by `recover`."""
    if not path.exists():
        new.replace(path)
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(aside, ignore_errors=True)
    path.replace(aside)
    try:
        new.replace(path)
    except BaseException:
        aside.replace(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _busy(process: int, role: str) -> bool:
    """Whether the process that made a leftover may still need it. The number may be ours again in a new container."""
    if process == os.getpid():
        return role == "tmp"  # about to be overwritten in any case
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def read_text(path: Path, error: type[ClearheadError]) -> str:
    """A UTF-8 text file, a byte order mark left out; the given kind of error, in one line, when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        line = problem.object.count(b"\n", 0, problem.start) + 1
        byte = f"byte 0x{problem.object[problem.start]:02x}"
        raise error("not UTF-8 text", where=f"{path}, line {line}", found=byte) from None
    except OSError as problem:
        raise error((problem.strerror or str(problem)).lower(), where=path) from None


def read_json(path: Path, error: type[ClearheadError]) -> Any:
    """A JSON file; the given kind of error, in one line, when it cannot be read."""
    try:
        return json.loads(read_text(path, error))
    except json.JSONDecodeError as problem:
        raise error("not JSON, or cut off", where=f"{path}, line {problem.lineno}", found=problem.msg.lower()) from None
    except (ValueError, RecursionError) as problem:  # numbers of thousands of digits, brackets a thousand deep
        raise error("not a JSON document that can be read", where=path, found=problem) from None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically, readable by people; floats keep every bit."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def _file_in_the_way(path: Path) -> Path:
    return next((each for each in (path, *path.parents) if each.exists() and not each.is_dir()), path)


def _sync_tree(folder: Path) -> None:
    for each in (*folder.rglob("*"), folder):
        if each.is_dir():
            _sync_folder(each)
        elif each.is_file():
            with open(each, "rb") as file:
                os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
