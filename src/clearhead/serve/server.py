"""A server that listens, runs until it is told to stop, and then finishes what it has begun."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import uvicorn

from clearhead.core.errors import UsageError
from clearhead.serve.app import application
from clearhead.serve.config import ServeConfig
from clearhead.serve.hall import Hall

SWITCH = 0.0005  # seconds that a thread keeps the interpreter while another one waits for it
BACKLOG = 512  # connections that wait to be accepted


def listen(config: ServeConfig) -> socket.socket:
    """Take the address; nobody is answered yet.

    Raises:
        UsageError: it is taken, or none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _refused(config, error) from None
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.set_inheritable(False)
        return listener
    except OSError as error:
        listener.close()
        raise _refused(config, error) from None


def address(config: ServeConfig, listener: socket.socket) -> str:
    """Where a browser finds the server."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{listener.getsockname()[1]}"


def run(hall: Hall, config: ServeConfig, listener: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until Ctrl-C or SIGTERM; then take no more requests, and finish those that run in the time of grace."""
    logging.getLogger("clearhead.serve").setLevel(logging.INFO)
    sys.setswitchinterval(SWITCH)  # tokens are computed and sent by different threads
    listener.listen(BACKLOG)
    try:
        Server(settings(hall, config), ready).run(sockets=[listener])
    finally:  # a second signal skips the orderly end
        if not hall.closing:
            asyncio.run(hall.aclose())


def settings(hall: Hall, config: ServeConfig) -> uvicorn.Config:
    """How uvicorn serves an application of ours."""
    return uvicorn.Config(
        application(hall, config),
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=round(config.grace_seconds),
    )


class Server(uvicorn.Server):
    """A server that says when it is ready, and for which a signal is a good end.

    Args:
        config: of uvicorn.
        ready: called once requests are answered.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at the first signal, at once at the second; leave nothing for the caller to handle."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _refused(config: ServeConfig, error: OSError) -> UsageError:
    reason = (error.strerror or str(error)).lower()
    remedy = "choose another one with --port, or --port 0 for any that is free"
    return UsageError("cannot listen there", where=f"{config.host}:{config.port}", found=reason, remedy=remedy)
