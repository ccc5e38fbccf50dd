"""The asyncio face of an engine: one thread computes, any number of coroutines read.

async with AsyncEngine(engine) as served:
    async for event in await served.submit(request):
        ...

The thread is the only one that touches the engine: requests and cancellations reach it through an inbox that it empties
between steps. Every reader has a queue of its own, so a slow one keeps nobody waiting; one that is too far behind is
cancelled, as is what nobody wants any more (the stream closed, its task cancelled, or the stream simply gone).
"""

import asyncio
import contextlib
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType

from clearhead.core.errors import ModelError
from clearhead.core.openmp import release_helpers
from clearhead.generate.engine import Engine
from clearhead.generate.request import Event, Request, Statistics

Job = Callable[[], None]


class Stream:
    """The events of one request, in order; after the last one the iteration ends.

    Args:
        number: of the request.
        queue: where its events arrive; None is the end.
        cancel: ends the request, if it has not ended.
    """

    def __init__(self, number: int, queue: "asyncio.Queue[Event | None]", cancel: Job) -> None:
        self.number = number
        self._queue, self._ended = queue, False
        self._cancel = weakref.finalize(self, cancel)
        self._cancel.atexit = False

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Event:
        event = None if self._ended else await self._queue.get()
        if event is None:
            self._ended = True
            self._cancel.detach()
            raise StopAsyncIteration
        return event

    async def news(self) -> list[Event]:
        """All events since the last call, at least one; an empty list after the last one."""
        first = await anext(self, None)
        events = [] if first is None else [first]
        while events and not self._queue.empty():
            event = self._queue.get_nowait()
            if event is None:
                self._queue.put_nowait(None)  # for the next call
                break
            events.append(event)
        return events

    async def aclose(self) -> None:
        """Read no further; the request is cancelled."""
        self._ended = True
        self._cancel()

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.aclose()


News = tuple["asyncio.Queue[Event | None]", Event | None]  # where an event goes, and the event


@dataclass
class Reader:
    """Where the events of a request go."""

    loop: asyncio.AbstractEventLoop
    queue: "asyncio.Queue[Event | None]"
    answers: int  # that have not ended


IDLE = 1.0  # seconds without work after which helpers are let go


class AsyncEngine:
    """Runs an engine on a thread of its own.

    Args:
        engine: nobody else may use it any more.
        backlog: events that a reader may be behind before its request is cancelled; None = any number.
    """

    def __init__(self, engine: Engine, *, backlog: int | None = None) -> None:
        self._engine, self._backlog = engine, backlog
        self._inbox: list[Job] = []
        self._readers: dict[int, Reader] = {}  # the thread's
        self._wake = threading.Condition()
        self._closing = False
        release_helpers()  # those of the thread that loaded the model
        self._thread = threading.Thread(target=self._serve, name="clearhead-engine", daemon=True)
        self._thread.start()

    async def submit(self, request: Request) -> Stream:
        """Put a request into the line and return its stream; errors as those of `Engine.submit`."""
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[int] = loop.create_future()
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._post(lambda: self._submit(request, Reader(loop, queue, request.n), accepted))
        number = await accepted
        return Stream(number, queue, lambda: self.cancel(number))

    def cancel(self, number: int, answer: int | None = None) -> None:
        """End a request soon, or one of its answers; nothing happens if it has ended. May be called from any thread."""
        with contextlib.suppress(ModelError):  # a closed engine has cancelled everything
            self._post(lambda: self._drop(number, answer))

    @property
    def alive(self) -> bool:
        """Whether requests are served."""
        return self._thread.is_alive() and not self._closing

    @property
    def statistics(self) -> Statistics:
        """What the engine has done and holds."""
        return self._engine.statistics

    async def aclose(self) -> None:
        """Cancel what is on its way and end the thread, after the step that it is in."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    async def __aenter__(self) -> "AsyncEngine":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- any thread ---

    def _post(self, job: Job) -> None:
        with self._wake:
            if self._closing or not self._thread.is_alive():
                raise ModelError("the engine is closed", remedy="make a new one")
            self._inbox.append(job)
            self._wake.notify()

    # --- the engine's thread ---

    def _serve(self) -> None:
        """Empty the inbox, compute a step, tell the readers; again and again."""
        try:
            while self._wait():
                self._tell(self._engine.step())
        finally:
            self._end()

    def _wait(self) -> bool:
        """Do the jobs of the inbox; sleep while there is nothing to compute. False when the engine closes."""
        with self._wake:
            if not self._wake.wait_for(self._called, timeout=IDLE):
                release_helpers()  # other engines may have work
                self._wake.wait_for(self._called)
            jobs, self._inbox = self._inbox, []
        for job in jobs:
            job()
        return not self._closing

    def _called(self) -> bool:
        return bool(self._inbox) or self._engine.busy or self._closing

    def _submit(self, request: Request, reader: Reader, accepted: "asyncio.Future[int]") -> None:
        try:
            number = self._engine.submit(request)
        except Exception as error:
            refusal = error
            _call(reader.loop, lambda: None if accepted.done() else accepted.set_exception(refusal))
            return
        self._readers[number] = reader
        _call(reader.loop, lambda: self._accept(accepted, number))

    def _accept(self, accepted: "asyncio.Future[int]", number: int) -> None:
        """Tell who asked; on the loop of the reader, who may have gone meanwhile."""
        if accepted.done():
            self.cancel(number)
        else:
            accepted.set_result(number)

    def _drop(self, number: int, answer: int | None = None) -> None:
        """Cancel a request, or one of its answers; its reader is told with the next step."""
        self._engine.cancel(number, answer)

    def _end(self) -> None:
        """Nobody waits for ever: every stream ends, even if the engine itself is broken."""
        with contextlib.suppress(Exception):
            for number in list(self._readers):
                self._drop(number)
            self._tell(self._engine.step())
        left = [(number, reader.answers) for number, reader in self._readers.items()]
        lost = Event(0, 0, finish="failed", error="the engine has stopped", internal=True)
        self._tell([replace(lost, request=number) for number, answers in left for _ in range(answers)])

    def _tell(self, events: list[Event]) -> None:
        """Hand events to their readers, each loop woken once."""
        news: dict[asyncio.AbstractEventLoop, list[News]] = defaultdict(list)
        for event in events:
            reader = self._readers.get(event.request)
            if reader is None:
                continue
            news[reader.loop].append((reader.queue, event))
            if self._backlog is not None and reader.queue.qsize() > self._backlog:
                self._drop(event.request)
            reader.answers -= event.finish is not None
            if not reader.answers:
                news[reader.loop].append((reader.queue, None))
                del self._readers[event.request]
        for loop, items in news.items():
            _call(loop, lambda items=items: _deliver(items))  # type: ignore[misc]


def _deliver(items: "list[News]") -> None:
    for queue, event in items:
        queue.put_nowait(event)


def _call(loop: asyncio.AbstractEventLoop, job: Job) -> None:
    """Run something on a loop; a loop that has ended has no readers left."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(job)
