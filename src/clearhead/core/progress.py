"""Progress on standard error: a live bar on a terminal, plain lines elsewhere, never on standard output."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def say(message: str) -> None:
    """One line on standard error."""
    print(message, file=sys.stderr, flush=True)


class Bar(Protocol):
    """What `track` yields: call it with the work done so far, a short note, and the total where it has changed."""

    def __call__(self, done: int, note: str = "", total: int | None = None) -> None: ...


@contextmanager
def track(label: str, total: int | None, *, start: int = 0, every: float = 20.0) -> Iterator[Bar]:
    """Show the progress of `total` units of work, `start` of them done before.

    Args:
        every: pause between plain lines, in seconds.
    """
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        clocks = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
        with Progress(*columns, *clocks, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(label, total=total, completed=start, note="")
            yield lambda done, note="", total=total: progress.update(task, completed=done, note=note, total=total)
    else:
        yield _Lines(label, total, start, every)


class _Lines:
    def __init__(self, label: str, total: int | None, first: int, every: float) -> None:
        self.label, self.total, self.first, self.every = label, total, first, every
        self.start = self.last = time.monotonic()

    def __call__(self, done: int, note: str = "", total: int | None = None) -> None:
        self.total = total or self.total
        now = time.monotonic()
        if now - self.last < self.every:
            return
        self.last = now
        of = f"/{self.total}" if self.total else ""
        left = ""
        if self.total and done > self.first:
            left = f", {clock((now - self.start) * (self.total - done) / (done - self.first))} left"
        say(f"{self.label} {done}{of}, {clock(now - self.start)} so far{left}  {note}")


def clock(seconds: float) -> str:
    """Seconds as people read them: 42 s, 3 min 05 s, 2 h 07 min."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
