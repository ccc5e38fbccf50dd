"""Server-sent events: an answer in parts, each sent as soon as it is there."""

from collections.abc import Awaitable, Callable
from typing import Any

from anyio import fail_after
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from clearhead.serve.errors import LOG, dumped

Tell = Callable[[bytes], Awaitable[None]]
DONE = b"data: [DONE]\n\n"


def event(content: Any) -> bytes:
    """One event that holds JSON."""
    return b"data: " + dumped(content) + b"\n\n"


class EventStream(Response):
    """A response that `write` sends part by part; a reader who takes nothing for some seconds is left.

    Args:
        write: sends all events; it is given the function that sends some.
        seconds: that a reader has to take a part.
    """

    media_type = "text/event-stream"

    def __init__(self, write: Callable[[Tell], Awaitable[None]], *, seconds: float) -> None:
        self.status_code, self.background = 200, None
        self._write, self._seconds = write, seconds
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(part: bytes) -> None:
            with fail_after(self._seconds):
                await send({"type": "http.response.body", "body": part, "more_body": True})

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            await self._write(tell)
        except TimeoutError:
            LOG.warning("a reader took nothing for %s seconds: its request is cancelled", self._seconds)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
