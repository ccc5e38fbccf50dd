"""A training starts anew with a fast allocator in front where the system has one, once, and not when told otherwise."""

import os
import subprocess
import sys
from ctypes.util import find_library
from types import SimpleNamespace

import pytest

from clearhead.core import allocator as module
from clearhead.core import jemalloc

SCRIPT = """
import sys
from clearhead.core.allocator import allocator, prefer_fast_allocator
prefer_fast_allocator()
print(allocator(), *sys.argv[1:])
"""
FOUND = next((name for name in module.KNOWN if find_library(name)), None)


def clean() -> dict[str, str]:
    """The environment without anything that chooses an allocator."""
    return {
        name: value for name, value in os.environ.items() if name not in (module.CHOICE, "LD_PRELOAD", "MALLOC_CONF")
    }


def started(**environment: str) -> str:
    command = [sys.executable, "-c", SCRIPT, "a b", "--c"]
    return subprocess.run(command, env=clean() | environment, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libraries are put in front on Linux only")
def test_the_first_known_one_is_taken_and_the_command_stays_as_it_was():
    assert started() == f"{FOUND or 'system'} a b --c\n"


def test_the_user_may_keep_the_one_of_the_c_library():
    assert started(CLEARHEAD_ALLOCATOR="system") == "system a b --c\n"


HOLD = """
import sys, threading, time
from clearhead.core import allocator, jemalloc
jemalloc.SPARE, jemalloc.SMALL = float(sys.argv[1]), 0
allocator.prefer_fast_allocator()
import torch
kept = [torch.ones(1_000_000) for _ in range(100)]
time.sleep(4 * jemalloc.LOOK)
del kept
held, _ = jemalloc.Jemalloc().held_and_used()
end = time.monotonic() + float(sys.argv[2])
while held > 400e6 and time.monotonic() < end:
    time.sleep(jemalloc.LOOK)
    held, _ = jemalloc.Jemalloc().held_and_used()
print([each.name for each in threading.enumerate()].count("pages"), held)
"""


@pytest.mark.skipif(FOUND != "jemalloc", reason="about jemalloc")
@pytest.mark.parametrize(("spare", "seconds", "kept"), [(2.0, 2, True), (0.5, 60, False)])
def test_pages_are_kept_as_long_as_not_too_many_are_free(spare, seconds, kept):
    command = [sys.executable, "-c", HOLD, str(spare), str(seconds)]
    out = subprocess.run(command, env=clean(), check=True, stdout=subprocess.PIPE, text=True).stdout
    threads, held = map(int, out.split())
    assert threads == 1
    assert (held > 400e6) == kept


@pytest.mark.skipif(FOUND != "jemalloc", reason="about jemalloc")
def test_settings_of_the_user_stay_as_they_are():
    command = [sys.executable, "-c", HOLD, "0.5", "2"]
    environment = {**clean(), "MALLOC_CONF": "dirty_decay_ms:-1"}
    out = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    threads, held = map(int, out.split())
    assert threads == 0
    assert held > 400e6


def test_without_the_library_nothing_is_done(monkeypatch):
    monkeypatch.setattr(jemalloc.ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(jemalloc.threading, "Thread", lambda **_: pytest.fail("started"))
    with pytest.raises(OSError, match="no jemalloc"):
        jemalloc.Jemalloc()
    jemalloc.keep_pages()


def test_a_library_without_numbers_is_left_alone(monkeypatch):
    monkeypatch.setattr(jemalloc.ctypes, "CDLL", lambda name: SimpleNamespace(mallctl=lambda *_: 2))
    monkeypatch.setattr(jemalloc.threading, "Thread", lambda **_: pytest.fail("started"))
    with pytest.raises(OSError, match="does not know epoch"):
        jemalloc.Jemalloc()
    jemalloc.keep_pages()


def test_a_library_that_cannot_be_loaded_does_not_start_the_command_for_ever(monkeypatch):
    monkeypatch.setattr(module, "find_library", lambda name: "libnothing.so.9")
    monkeypatch.setattr(module, "allocator", lambda: "system")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv(module.CHOICE, raising=False)
    calls = []
    monkeypatch.setattr(os, "execve", lambda *arguments: calls.append(arguments))
    monkeypatch.setenv("LD_PRELOAD", "other.so")
    module.prefer_fast_allocator()
    [(program, command, environment)] = calls
    assert (program, command[0]) == (sys.executable, sys.executable)
    assert environment["LD_PRELOAD"] == "libnothing.so.9 other.so"
    monkeypatch.setenv("LD_PRELOAD", environment["LD_PRELOAD"])
    module.prefer_fast_allocator()
    assert len(calls) == 1


def test_jemalloc_keeps_its_pages_unless_there_are_other_settings(monkeypatch):
    monkeypatch.setattr(module, "allocator", lambda: "system")
    monkeypatch.setattr(sys, "platform", "linux")
    for name in (module.CHOICE, "LD_PRELOAD", "MALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    taken = []
    monkeypatch.setattr(os, "execve", lambda *arguments: taken.append(arguments[2].get("MALLOC_CONF")))
    for library, given in (("libjemalloc.so.2", None), ("libjemalloc.so.2", "narenas:1"), ("libmimalloc.so.2", None)):
        monkeypatch.setattr(module, "find_library", lambda name, library=library: library)
        if given:
            monkeypatch.setenv("MALLOC_CONF", given)
        module.prefer_fast_allocator()
        monkeypatch.delenv("MALLOC_CONF", raising=False)
    assert taken == [module.JEMALLOC, "narenas:1", None]
