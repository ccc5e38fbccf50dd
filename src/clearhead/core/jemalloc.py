"""Free pages of jemalloc: kept for the next update, and given back to the system when they are many.

By itself jemalloc gives back what is free whenever it looks, and a training wants it again a second later: clearing
those pages was a third of a training (docs/log.md). Kept for ever they would fill the machine, as batches of ever new
sizes leave ever new gaps. So they are kept, and a thread looks how many there are.
"""

import ctypes
import threading
import time
from typing import Any

LOOK = 0.25  # seconds
SPARE = 1.25  # of what was in use lately: more than that is not held
FADE = 0.998  # how much of the most that was in use is remembered at the next look; half of it after 90 seconds
SMALL = 1 << 28  # bytes that nobody misses
ALL = 4096  # stands for all arenas


class Jemalloc:
    """The control calls of the library that this process was started with.

    Raises:
        OSError: there is none, or it was built without the numbers that are needed.
    """

    def __init__(self) -> None:
        control = getattr(ctypes.CDLL(None), "mallctl", None)
        if control is None:
            raise OSError("no jemalloc")
        self._control = control
        self.held_and_used()

    def held_and_used(self) -> tuple[int, int]:
        """Bytes that the library holds, and those of them in pages that are in use."""
        self._call("epoch", given=ctypes.c_uint64(1))  # all numbers are of now
        numbers = [ctypes.c_size_t() for _ in range(2)]
        for name, number in zip(("resident", "active"), numbers, strict=True):
            self._call(f"stats.{name}", found=number)
        return numbers[0].value, numbers[1].value

    def keep_free_pages(self) -> None:
        """From now on no arena gives pages back by itself."""
        count, never = ctypes.c_uint(), ctypes.c_ssize_t(-1)
        self._call("arenas.dirty_decay_ms", given=never)  # of arenas to come
        self._call("arenas.narenas", found=count)
        for arena in range(count.value):
            if self._is_there(arena):
                self._call(f"arena.{arena}.dirty_decay_ms", given=never)

    def give_back(self) -> None:
        """Give all free pages to the system."""
        self._call(f"arena.{ALL}.purge")

    def _is_there(self, arena: int) -> bool:
        there = ctypes.c_bool()
        self._call(f"arena.{arena}.initialized", found=there)
        return there.value

    def _call(self, name: str, found: "ctypes._SimpleCData[Any] | None" = None, given: object = None) -> None:
        size = ctypes.c_size_t(0 if found is None else ctypes.sizeof(found))
        where = (None, None) if found is None else (ctypes.byref(found), ctypes.byref(size))
        what = (None, 0) if given is None else (ctypes.byref(given), ctypes.sizeof(given))  # type: ignore[arg-type]
        code = self._control(name.encode(), *where, what[0], ctypes.c_size_t(what[1]))
        if code:
            raise OSError(code, f"jemalloc does not know {name}")


def keep_pages() -> None:
    """Keep free pages in this process from now on, within limits; nothing where the library cannot do it."""
    try:
        library = Jemalloc()
        library.keep_free_pages()
    except OSError:
        return
    threading.Thread(target=_watch, args=(library,), name="pages", daemon=True).start()


def _watch(library: Jemalloc) -> None:
    most = 0.0
    while True:
        time.sleep(LOOK)
        held, used = library.held_and_used()
        most = max(FADE * most, used)
        if held > max(SPARE * most, SMALL):
            library.give_back()
