"""Files and folders are old or new, never half, and a disk error is one line."""

import builtins
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clearhead.core.errors import BundleError, StorageError
from clearhead.core.files import (
    folder_atomic,
    make_folder,
    read_json,
    read_text,
    recover,
    storage,
    write_atomic,
    write_json,
)

DEAD = 2**22 + 1  # no process has this number: it is above the largest that Linux gives


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def refusal(action) -> str:
    with pytest.raises(StorageError) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


class Crash(BaseException):
    """The moment at which the power goes."""


def crash(*_: object) -> None:
    raise Crash


def rename(source: Path, target: Path) -> Path:
    os.rename(source, target)  # noqa: PTH104 (Path.replace is what the tests break)
    return target


# --- one file ---


def test_a_file_is_replaced_as_a_whole(tmp_path):
    write_atomic(tmp_path / "a", "first, 长")
    write_atomic(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"second"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("moment", [(os, "fsync"), (Path, "replace")])
def test_a_crash_before_the_rename_leaves_the_old_file(moment, tmp_path, monkeypatch):
    write_atomic(tmp_path / "a", "old")
    monkeypatch.setattr(*moment, crash)
    with pytest.raises(Crash):
        write_atomic(tmp_path / "a", "new")
    monkeypatch.undo()
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_kill_leaves_the_old_file_and_the_next_write_clears_up(tmp_path):
    write_atomic(tmp_path / "a", "old")
    script = (
        "import os; from pathlib import Path; from clearhead.core.files import write_atomic;"
        f"Path.replace = lambda *_: os._exit(9); write_atomic(Path({str(tmp_path / 'a')!r}), 'new')"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert (tmp_path / "a").read_text() == "old"
    assert len(names(tmp_path)) == 2
    write_atomic(tmp_path / "a", "newer")
    assert names(tmp_path) == ["a"]


def test_the_new_content_is_on_the_disk_before_the_old_is_gone(tmp_path, monkeypatch):
    order: list[str] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (order.append("sync"), sync(number))[1])
    monkeypatch.setattr(Path, "replace", lambda *paths: (order.append("rename"), rename(*paths))[1])
    write_atomic(tmp_path / "a", "x")
    assert order == ["sync", "rename", "sync"]  # file, rename, folder


def fail_with(monkeypatch, number: int) -> None:
    def refuse(path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(builtins, "open", refuse)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "cannot write: no space left on device; free some disk space or choose another folder"),
        (errno.EACCES, "cannot write: permission denied; choose a folder that you may write to"),
        (errno.EROFS, "cannot write: read-only file system"),
        (errno.EDQUOT, "cannot write: disk quota exceeded; your disk quota is used up: free some space"),
        (errno.EIO, "cannot write: input/output error"),
    ],
)
def test_an_error_of_the_disk_names_the_file_and_the_remedy(number, told, tmp_path, monkeypatch):
    fail_with(monkeypatch, number)
    message = refusal(lambda: write_atomic(tmp_path / "a", "x"))
    assert message.startswith(f"{tmp_path / 'a'}: {told}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_is_told_when_the_bytes_are_written(tmp_path):
    def fill() -> None:
        with storage(tmp_path / "a"), open("/dev/full", "wb") as file:
            file.write(b"x")

    assert "no space left on device; free some disk space" in refusal(fill)


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    for action in (
        lambda: write_atomic(tmp_path / "file" / "a", "x"),
        lambda: make_folder(tmp_path / "file" / "a" / "b"),
        lambda: make_folder(tmp_path / "file"),
        lambda: folder_atomic(tmp_path / "file" / "a").__enter__(),
        lambda: folder_atomic(tmp_path / "file").__enter__(),
    ):
        message = refusal(action)
        assert message.startswith(f"{tmp_path / 'file'}: cannot write: ")
        assert message.endswith("a file stands where a folder is needed: choose another path")
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_in_the_way_of_a_file_is_told(tmp_path):
    (tmp_path / "a").mkdir()
    assert "a folder stands where a file is needed" in refusal(lambda: write_atomic(tmp_path / "a", "x"))
    assert names(tmp_path) == ["a"]


def test_a_missing_folder_and_a_long_name_are_told(tmp_path):
    assert "no such file or directory; the folder" in refusal(lambda: write_atomic(tmp_path / "no" / "a", "x"))
    assert "choose a shorter name" in refusal(lambda: write_atomic(tmp_path / ("x" * 300), "x"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a file system that takes no files")
def test_a_place_that_takes_no_files_is_told():
    assert "cannot write" in refusal(lambda: make_folder(Path("/proc/nothing/here")))


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(ValueError, match="mine"), storage(tmp_path):
        raise ValueError("mine")


# --- one folder ---


def fill(path: Path, text: str) -> None:
    with folder_atomic(path) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_text(text)


def content(path: Path) -> str:
    return (path / "deep" / "a").read_text()


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with folder_atomic(tmp_path / "new" / "run") as folder:
        (folder / "a").write_text("x")
        assert not (tmp_path / "new" / "run").exists()
    assert (tmp_path / "new" / "run" / "a").read_text() == "x"
    assert names(tmp_path / "new") == ["run"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, StorageError])
def test_a_failing_block_leaves_the_old_folder(error, tmp_path):
    fill(tmp_path / "run", "old")
    with pytest.raises(error), folder_atomic(tmp_path / "run") as folder:  # noqa: PT012
        (folder / "a").write_text("half")
        raise error("stop")
    assert content(tmp_path / "run") == "old"
    assert names(tmp_path) == ["run"]


def test_a_disk_error_inside_the_block_names_the_folder_meant(tmp_path):
    def fails() -> None:
        with folder_atomic(tmp_path / "run") as folder:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "a"))

    assert refusal(fails).startswith(f"{tmp_path / 'run'}: cannot write: no space left")
    assert names(tmp_path) == []


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    fill(tmp_path / "run", "old")
    (tmp_path / "run" / "more").write_text("x")
    fill(tmp_path / "run", "new")
    assert content(tmp_path / "run") == "new"
    assert names(tmp_path / "run") == ["deep"]
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("moment", [1, 2])
def test_a_failure_at_either_rename_leaves_the_old_folder(moment, tmp_path, monkeypatch):
    fill(tmp_path / "run", "old")
    calls = []

    def fails(source: Path, target: Path) -> Path:
        calls.append(source)
        if len(calls) == moment:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(source, target)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(StorageError):
        fill(tmp_path / "run", "new")
    monkeypatch.undo()
    assert content(tmp_path / "run") == "old"
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("moment", [1, 2])
def test_a_kill_at_either_rename_loses_nothing(moment, tmp_path):
    path = tmp_path / "run"
    fill(path, "old")
    script = f"""
import os
from pathlib import Path
from clearhead.core.files import folder_atomic
calls = []
def kill(source, target):
    calls.append(source)
    if len(calls) == {moment}:
        os._exit(9)
    os.rename(source, target)
Path.replace = kill
with folder_atomic(Path({str(path)!r})) as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "a").write_text("new")
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    recover(path)
    assert content(path) == "old"
    assert names(tmp_path) == ["run"]
    fill(path, "newer")
    assert content(path) == "newer"
    assert names(tmp_path) == ["run"]


def test_leftovers_of_the_living_and_strangers_stay(tmp_path):
    own, other = f".run.{os.getpid()}.tmp", f".run.{os.getppid()}.tmp"
    for name in (own, other, ".run.notes.tmp", ".run.5.txt", ".run.7.8.tmp", ".runner.5.tmp", ".run"):
        (tmp_path / name).write_text("x")
    (tmp_path / f".run.{DEAD}.tmp").mkdir()
    (tmp_path / f".run.{DEAD}.old").mkdir()
    (tmp_path / "run").mkdir()
    before = set(names(tmp_path))
    recover(tmp_path / "run")
    assert before - set(names(tmp_path)) == {f".run.{DEAD}.tmp", f".run.{DEAD}.old"}


def test_a_name_that_looks_like_a_pattern_clears_up_only_its_own(tmp_path):
    for name in (f".a[1].{DEAD}.tmp", f".a1.{DEAD}.tmp"):
        (tmp_path / name).write_text("x")
    write_atomic(tmp_path / "a[1]", "x")
    assert names(tmp_path) == [f".a1.{DEAD}.tmp", "a[1]"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    fill(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    fill(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == "new"


# --- reading ---


def test_text_is_read_without_a_byte_order_mark(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfline\r\n")
    assert read_text(tmp_path / "a", BundleError) == "line\n"


def test_json_is_written_for_people_and_comes_back(tmp_path):
    value = {"loss": [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308], "语言": ["中文", None, True, "\u2028"]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json", BundleError) == value
    assert '"语言": [\n' in (tmp_path / "a.json").read_text()


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b'{"a": 1,\n "b": ', "a.json, line 2: not JSON, or cut off; found expecting value"),
        (b"", "a.json, line 1: not JSON, or cut off"),
        (b'{"a":\n "\xff"}', "a.json, line 2: not UTF-8 text; found byte 0xff"),
        (b"[" * 100_000, "a.json: not a JSON document that can be read; found maximum recursion depth"),
        (b"1" * 5_000, "a.json: not a JSON document that can be read; found exceeds the limit"),
    ],
)
def test_a_damaged_file_is_told_with_its_line(raw, told, tmp_path):
    (tmp_path / "a.json").write_bytes(raw)
    with pytest.raises(BundleError) as caught:
        read_json(tmp_path / "a.json", BundleError)
    assert told in str(caught.value).replace("Exceeds", "exceeds")
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_is_the_error_asked_for(tmp_path):
    with pytest.raises(BundleError, match="none: no such file or directory"):
        read_text(tmp_path / "none", BundleError)
    with pytest.raises(BundleError, match="is a directory"):
        read_json(tmp_path, BundleError)
