"""Tokens to text while they come: never half a character, never a part of a stop string."""

from collections.abc import Sequence

from clearhead.core.errors import ConfigError
from clearhead.text import Tokenizer

CONTEXT = 8  # tokens before the first one that may change how it is written
BYTES = 3  # tokens that may hold the begin of one character, whose UTF-8 has four bytes at most
UNKNOWN = "\ufffd"


class Detokenizer:
    """The text that each token adds. What is told is never taken back.

    Args:
        tokenizer: of the text.
        context: the tokens before; they are not written.
    """

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._ids = list(context[-CONTEXT:])
        self._begin, self._told = 0, len(self._ids)  # ids from begin to told are written; they are context

    def add(self, token: int) -> str:
        """The text that is certain now."""
        self._ids.append(token)
        before, now = self._text(self._told), self._text(len(self._ids))
        stop = len(self._ids)
        if now.endswith(UNKNOWN):  # perhaps the begin of a character
            stop -= BYTES
            now = self._text(stop) if stop > self._told and now.startswith(self._text(stop)) else before
        if len(now) <= len(before) or not now.startswith(before):
            return ""
        self._begin, self._told = self._told, stop
        return now[len(before) :]

    def finish(self) -> str:
        """What was held back."""
        before, now = self._text(self._told), self._text(len(self._ids))
        self._begin = self._told = len(self._ids)
        return now[len(before) :] if now.startswith(before) else ""

    def _text(self, stop: int) -> str:
        return self._tokenizer.decode(self._ids[self._begin : stop])


class StopStrings:
    """Finds the first of some strings in a text that comes in pieces; what may be its begin is held back.

    Raises:
        ConfigError: one of the strings is empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if isinstance(stops, str):
            raise ConfigError("one string is not a list of stop strings", remedy="pass [text]")
        if not all(stops):
            raise ConfigError("an empty stop string would end every text", remedy="leave it out")
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def add(self, piece: str) -> str:
        """The text that is certain now; nothing after the stop string."""
        if self.found is not None:
            return ""
        text = self._held + piece
        places = [(text.find(each), each) for each in self._stops if each in text]
        if places:
            place, self.found = min(places, key=lambda each: each[0])
            self._held = ""
            return text[:place]
        keep = max((_overlap(text, each) for each in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return held


class Writer:
    """One answer as text.

    Args:
        tokenizer: of the answer.
        context: the tokens before it.
        stops: strings that end it and are no part of it.
    """

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int], stops: Sequence[str]) -> None:
        self._detokenizer, self._stops = Detokenizer(tokenizer, context), StopStrings(stops)
        self.text = ""

    @property
    def stopped(self) -> str | None:
        """The stop string that was found."""
        return self._stops.found

    def add(self, token: int) -> str:
        """The text that is certain now."""
        return self._told(self._stops.add(self._detokenizer.add(token)))

    def finish(self) -> str:
        """The rest of the text: no token follows."""
        last = self._stops.add(self._detokenizer.finish())
        return self._told(last + self._stops.finish())

    def _told(self, piece: str) -> str:
        self.text += piece
        return piece


def _overlap(text: str, stop: str) -> int:
    """The longest end of a text that begins the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
