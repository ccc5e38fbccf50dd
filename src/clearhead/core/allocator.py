"""Memory for trainings from an allocator that does not slow down, where the system has one.

A training asks for thousands of tensors a second whose sizes change from batch to batch. The C library's allocator
keeps all large free pieces in one sorted list; it grows with the run and is searched at each request (docs/log.md,
"Where a training's time went: malloc"). jemalloc, tcmalloc and mimalloc keep their speed. They must be there before
anything else is loaded, so the process replaces itself once.
"""

import os
import sys
from ctypes.util import find_library
from pathlib import Path

from clearhead.core.jemalloc import keep_pages

KNOWN = ("jemalloc", "tcmalloc_minimal", "tcmalloc", "mimalloc")
CHOICE = "CLEARHEAD_ALLOCATOR"  # "system" keeps the C library's
TRIED = "tried"  # stands there after the start, should the system have taken LD_PRELOAD away
JEMALLOC = "oversize_threshold:0,thp:always"  # pages of large pieces are kept like others; pages are huge


def prefer_fast_allocator() -> None:
    """Start this command anew with the first known allocator in front; return if there is none or one is in use.

    Only on Linux, and only from a program's entry point: nothing that was done before is kept.
    """
    keep_free_pages()
    if not sys.platform.startswith("linux") or os.environ.get(CHOICE) in ("system", TRIED) or allocator() != "system":
        return
    library = next(filter(None, map(find_library, KNOWN)), None)
    if library is None or library in os.environ.get("LD_PRELOAD", ""):
        return  # none, or one that could not be loaded
    preload = " ".join(filter(None, [library, os.environ.get("LD_PRELOAD")]))
    settings = {"MALLOC_CONF": JEMALLOC} if "jemalloc" in library else {}
    environment = {**settings, **os.environ, "LD_PRELOAD": preload, CHOICE: TRIED}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def keep_free_pages() -> None:
    """To be called in each process of a training: what jemalloc does with free pages, unless the user has set it up."""
    if os.environ.get("MALLOC_CONF") == JEMALLOC and allocator() == "jemalloc":
        keep_pages()


def allocator() -> str:
    """What this process takes its memory from: one of the known names, or `system`."""
    try:
        loaded = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "system"
    return next((name for name in KNOWN if f"lib{name}." in loaded), "system")
