"""Ctrl-C and SIGTERM ask a run to stop after the update it is in; a second Ctrl-C stops it at once."""

import contextlib
import os
import signal
import sys
import threading
from types import FrameType, TracebackType


class StopRequest:
    """A context in which the two signals only set `requested`."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            _notice(b"stopping after this update; Ctrl-C again stops at once\n")
        self.requested = True


def _notice(message: bytes) -> None:
    """Straight to standard error: a signal may come while Python itself is writing there."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.write(sys.stderr.fileno(), message)
