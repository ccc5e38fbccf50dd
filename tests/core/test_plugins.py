"""Plugins run once, only when they are named, and a mistake in one is told in one line."""

import hashlib
import sys
from pathlib import Path

import pytest

from clearhead.core.errors import ConfigError
from clearhead.core.plugins import fingerprints, load_plugin


@pytest.fixture(autouse=True)
def forgotten():
    """What a test loads is not loaded for the next one."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("clearhead_plugin_"):
            del sys.modules[name]


def plugin(folder: Path, text: str, name: str = "mine.py") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_plugin_runs_once(tmp_path):
    path = plugin(tmp_path, f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n")
    load_plugin(path)
    load_plugin(path)
    load_plugin(tmp_path / "." / "mine.py")
    assert (tmp_path / "runs").read_text() == "x"


def test_two_plugins_of_one_name_are_two(tmp_path):
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        load_plugin(plugin(folder, f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n"))
    assert (tmp_path / "runs").read_text() == "xx"


def test_what_is_recorded_is_what_was_run(tmp_path):
    path = plugin(tmp_path, "x = 1\n")
    load_plugin(path)
    path.write_text("something else")
    assert fingerprints([str(path)]) == [{"file": "mine.py", "sha256": hashlib.sha256(b"x = 1\n").hexdigest()}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", "a plugin cannot be loaded; found .*ModuleNotFoundError: No module named"),
        ("def (", ": SyntaxError: "),
        ("raise ValueError('two\\nlines')", ": ValueError: two lines"),
    ],
)
def test_a_mistake_in_a_plugin_is_one_line_with_its_file(tmp_path, text, message):
    path = plugin(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as refusal:
        load_plugin(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ConfigError):  # it is not taken for loaded
        load_plugin(path)


@pytest.mark.parametrize("name", ["absent.py", "notes.txt", "."])
def test_what_is_no_python_file_is_refused(tmp_path, name):
    (tmp_path / "notes.txt").write_text("x = 1")
    with pytest.raises(ConfigError, match="no such plugin"):
        load_plugin(tmp_path / name)
