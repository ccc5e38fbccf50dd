"""Answers on their way: from the events of an engine to pieces of text, for all requests of one call."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from clearhead.apply import Wish
from clearhead.apply.writing import Writer
from clearhead.core.errors import ModelError
from clearhead.generate import Event, Request
from clearhead.generate.async_engine import Stream
from clearhead.serve.errors import InternalError, LateError, UnavailableError
from clearhead.serve.hall import Hall, Served


@dataclass(frozen=True)
class Piece:
    """What is new of one answer."""

    choice: int  # which answer: those of the first request come first
    text: str
    tokens: tuple[Event, ...]  # that wrote it, with their log-probabilities; where those are wanted
    finish: str | None  # stop or length, in the last piece


Tell = Callable[[list[Piece]], Awaitable[None]]


@dataclass(eq=False)
class _Line:
    """One answer that is being written."""

    choice: int
    writer: Writer
    cancel: Callable[[], None]
    keeps: bool  # the tokens too
    held: list[Event] = field(default_factory=list)  # tokens whose text is not certain yet
    ended: bool = False

    def add(self, event: Event) -> Piece | None:
        """Take in an event; what it makes certain."""
        if self.ended:
            return None
        text = self._text(event)
        stopped = self.writer.stopped is not None
        finish = "stop" if stopped else event.finish
        if finish is None and not text:
            return None
        _refuse(event, finish)
        self.ended = finish is not None
        if stopped and event.finish is None:
            self.cancel()
        held = [] if stopped and not text else self.held  # what wrote the stop string is no part of the answer
        self.held = []
        return Piece(self.choice, text, tuple(held), finish)

    def _text(self, event: Event) -> str:
        text = "" if event.token is None else self.writer.add(event.token)
        if event.token is not None and self.keeps:
            self.held.append(event)
        return text + (self.writer.finish() if event.finish is not None else "")


class Answers:
    """The answers of one call. `begin` submits its requests; `run` tells the pieces; leaving early cancels.

    Attributes:
        prompt_tokens, chosen_tokens: so far.
    """

    def __init__(self, hall: Hall, served: Served, wish: Wish, started: float) -> None:
        self.hall, self.served, self.wish, self.started = hall, served, wish, started
        self.prompt_tokens = self.chosen_tokens = 0
        self._streams: list[tuple[Stream, Request]] = []

    @classmethod
    async def begin(
        cls, hall: Hall, served: Served, requests: Sequence[Request], wish: Wish, *, started: float
    ) -> "Answers":
        """Submit the requests of a call; all are taken, or none.

        Raises:
            ClearheadError: as `Engine.submit`; a model that continues nothing; an engine that has ended.
        """
        answers = cls(hall, served, wish, started)
        try:
            for request in requests:
                await answers._submit(request)
        except BaseException:
            await answers.aclose()
            raise
        return answers

    async def run(self, tell: Tell) -> None:
        """Tell all pieces, those that came together at once.

        Raises:
            ClearheadError: an answer failed, or took too long.
        """
        try:
            readers = [self._read(number, tell) for number in range(len(self._streams))]
            await (readers[0] if len(readers) == 1 else asyncio.gather(*readers))
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Cancel what is left."""
        for stream, _ in self._streams:
            await stream.aclose()

    async def _submit(self, request: Request) -> None:
        engine = self.served.engine
        assert engine is not None
        if not engine.alive:
            raise UnavailableError("the engine of this model has ended")
        self._streams.append((await engine.submit(request), request))
        self.prompt_tokens += len(request.prompt) + len(request.source or ())

    async def _read(self, number: int, tell: Tell) -> None:
        stream, request = self._streams[number]
        lines = self._lines(number, stream, request)
        first = True
        while events := await stream.news():
            self.chosen_tokens += sum(each.token is not None for each in events)
            if first and any(each.token is not None for each in events):
                first = False
                self._note_first()
            pieces = [piece for each in events if (piece := lines[each.answer].add(each)) is not None]
            if pieces:
                await tell(pieces)

    def _lines(self, number: int, stream: Stream, request: Request) -> list[_Line]:
        engine, keeps = self.served.engine, self.wish.log_probabilities is not None
        assert engine is not None
        return [
            _Line(
                number * self.wish.n + answer,
                Writer(self.served.model.bundle.target, request.prompt, self.wish.stop),
                partial(engine.cancel, stream.number, answer),
                keeps,
            )
            for answer in range(request.n)
        ]

    def _note_first(self) -> None:
        seconds = time.perf_counter() - self.started
        self.hall.metrics.first_token.labels(self.served.name).observe(seconds)


def _refuse(event: Event, finish: str | None) -> None:
    """An answer that has neither an end of its own nor the length that was asked for is none."""
    if finish == "deadline":
        raise LateError("the answer took longer than this server allows")
    if finish == "cancelled":
        raise UnavailableError("the answer was cancelled: its reader is too slow, or the server is closing")
    if finish == "failed" and event.internal:
        raise InternalError(event.error)
    if finish == "failed":
        raise ModelError("the answer failed", found=event.error)
