"""Lines of text in and out."""

import re
import sys
from collections.abc import Iterator

from clearhead.core.errors import DataError

_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


def standard_input() -> Iterator[str]:
    """The lines of standard input; a DataError names a line that is not UTF-8."""
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        try:
            yield raw.rstrip(b"\r\n").decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                "not UTF-8 text",
                where=f"standard input, line {number}",
                found=f"byte 0x{error.object[error.start]:02x} at position {error.start}",
                remedy="convert it, e.g. with iconv",
            ) from None


def one_line(text: str) -> str:
    """The text with its tabs and line breaks as spaces: it must stay in its line and column."""
    return unbroken(text).strip()


def unbroken(piece: str) -> str:
    """The same for a piece of a text, whose spaces at both ends stay."""
    return _BREAKS.sub(" ", piece)


def relocated(error: DataError, place: object) -> DataError:
    """The same error at another place: what the model calls `text 3` is a line or an argument to the user."""
    return DataError(error.what, where=place, found=error.found, expected=error.expected, remedy=error.remedy)


def text_number(error: DataError) -> int | None:
    """The number in a place such as `text 3`."""
    word, _, number = str(error.where or "").partition(" ")
    return int(number) if word == "text" and number.isdecimal() else None
