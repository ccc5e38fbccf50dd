"""From any failure to one line on standard error and an exit status."""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any, cast

import typer

from clearhead.core.errors import ClearheadError, one_line

WRONG_USE: type[Exception] = typer.BadParameter.__mro__[1]  # what a command line that cannot be parsed raises
MEMORY = "out of memory; train with a smaller train.batch_tokens or model, or translate with fewer beams"
UNKNOWN = "this should not happen: add --debug to see where, and please report it"


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM; its text says what to do now."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside the block Ctrl-C and SIGTERM unwind the stack, so that temporary files are cleared up."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted("interrupted")

    mine = threading.current_thread() is threading.main_thread()
    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)} if mine else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def failed(error: BaseException, *, debug: bool) -> int:
    """Tell what went wrong and return the exit status: 1 failed, 2 used wrongly, 130 interrupted."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(bool(error.code))
    if debug:
        traceback.print_exception(type(error), error, error.__traceback__)
    release_output()
    message, status = _told(error)
    if message:
        with contextlib.suppress(OSError):
            print(message, file=sys.stderr)
    return status


def release_output() -> None:
    """Write out standard output; if nobody takes it (a closed pipe, a full disk), let nobody wait for it."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _told(error: BaseException) -> tuple[str, int]:
    if isinstance(error, ClearheadError):
        return f"clearhead: {error}", error.exit_code
    if isinstance(error, WRONG_USE):
        return _usage(error), 2
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return f"clearhead: {str(error) or 'interrupted'}", 130
    if isinstance(error, BrokenPipeError):  # the reader has gone: there is nobody to tell
        return "", 1
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _about_memory(str(error))):
        return f"clearhead: {MEMORY}", 1
    if isinstance(error, OSError):
        reason = (error.strerror or str(error)).lower()
        return one_line(f"clearhead: {error.filename or 'standard output'}: {reason}"), 1
    return one_line(f"clearhead: {type(error).__name__}: {error}; {UNKNOWN}"), 1


def _usage(error: Exception) -> str:
    """One line; without any argument, the help page."""
    message = str(cast(Any, error).format_message()).strip().replace(". Did", "; did")
    if "\n" in message:
        return message
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "clearhead"
    return one_line(f"{path}: {message[0].lower()}{message[1:].rstrip('.')}; see {path} --help")


def _about_memory(message: str) -> bool:
    return "out of memory" in message.lower() or "can't allocate memory" in message.lower()
