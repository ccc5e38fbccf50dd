"""Memory for trainings from an allocator that does not slow down, where the system has one.

A training asks for thousands of tensors a second whose sizes change from batch to batch. The C library's allocator
keeps all large free pieces in one sorted list; it grows with the run and is searched at each request (docs/log.md,
"Where a training's time went: malloc"). jemalloc, tcmalloc and mimalloc keep their speed. They must be there before
anything else is loaded, so the process replaces itself once.

By itself jemalloc gives free pages back to the system all the time, and a training wants them again at once: the
system's clearing of pages was a third of its time. So jemalloc is told to keep them, and a thread gives them back
when there are many more than are in use; without it batches of ever new sizes would fill the machine.
"""

import ctypes
import os
import sys
import threading
import time
from ctypes.util import find_library
from pathlib import Path

KNOWN = ("jemalloc", "tcmalloc_minimal", "tcmalloc", "mimalloc")
CHOICE = "CLEARHEAD_ALLOCATOR"  # "system" keeps the C library's
TRIED = "tried"  # stands there after the start, should the system have taken LD_PRELOAD away
KEPT = "dirty_decay_ms:-1"
JEMALLOC = f"oversize_threshold:0,thp:always,{KEPT}"  # free pages are kept, also those of large pieces
ALL_ARENAS = b"arena.4096.purge"
LOOK = 0.25  # seconds
SPARE = 1.25  # times the most that was in use


def prefer_fast_allocator() -> None:
    """Start this command anew with the first known allocator in front; return if there is none or one is in use.

    Only on Linux, and only from a program's entry point: nothing that was done before is kept.
    """
    give_pages_back()
    if not sys.platform.startswith("linux") or os.environ.get(CHOICE) in ("system", TRIED) or allocator() != "system":
        return
    library = next(filter(None, map(find_library, KNOWN)), None)
    if library is None or library in os.environ.get("LD_PRELOAD", ""):
        return  # none, or one that could not be loaded
    preload = " ".join(filter(None, [library, os.environ.get("LD_PRELOAD")]))
    settings = {"MALLOC_CONF": JEMALLOC} if "jemalloc" in library else {}
    environment = {**settings, **os.environ, "LD_PRELOAD": preload, CHOICE: TRIED}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def give_pages_back() -> None:
    """Start the thread that does this, in each process whose jemalloc does not do it by itself."""
    if allocator() == "jemalloc" and KEPT in os.environ.get("MALLOC_CONF", ""):
        threading.Thread(target=_watch_pages, name="pages", daemon=True).start()


def allocator() -> str:
    """What this process takes its memory from: one of the known names, or `system`."""
    try:
        loaded = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "system"
    return next((name for name in KNOWN if f"lib{name}." in loaded), "system")


def _watch_pages() -> None:
    """Watch how much memory is in use, and what jemalloc holds beyond that; never returns."""
    control, used = ctypes.CDLL(None).mallctl, 0
    while True:
        time.sleep(LOOK)
        held, in_use = _read(control, b"stats.resident"), _read(control, b"stats.active")
        used = max(used, in_use)
        if held > SPARE * used:
            control(ALL_ARENAS, None, None, None, 0)


def _read(control: "ctypes._FuncPointer", name: bytes) -> int:
    """One of jemalloc's numbers, in bytes."""
    now, value = ctypes.c_uint64(1), ctypes.c_size_t()
    control(b"epoch", None, None, ctypes.byref(now), ctypes.c_size_t(ctypes.sizeof(now)))
    control(name, ctypes.byref(value), ctypes.byref(ctypes.c_size_t(ctypes.sizeof(value))), None, ctypes.c_size_t(0))
    return value.value
