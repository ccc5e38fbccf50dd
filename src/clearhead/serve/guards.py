"""What every request passes before a route sees it, from the outside in: headers, errors, origin, crowd, key, body.

Each guard is a plain ASGI middleware: it neither copies nor buffers what a route streams.
"""

import asyncio
import time
from urllib.parse import urlsplit

from anyio import CancelScope, fail_after
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clearhead.serve.config import LOOPBACK, ServeConfig
from clearhead.serve.errors import RETRY, answer, refused
from clearhead.serve.hall import Hall
from clearhead.serve.keys import Keys, bearer, is_open

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
OWN_KEY = "/translate"  # LibreTranslate's clients put the key into the body


def guard(app: FastAPI, hall: Hall, config: ServeConfig) -> None:
    """Put the guards around an application; the last one added is the outermost."""
    app.add_middleware(Body, config=config)
    app.add_middleware(Key, config=config)
    app.add_middleware(Crowd, hall=hall, config=config)
    if config.allowed_origins:
        origins = list(config.allowed_origins)
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(Origin, config=config)
    app.add_middleware(Errors)
    app.add_middleware(Security, allowed=bool(config.allowed_origins))


class Security:
    """Headers that keep what we send from being anything but data; a route may set its own policy."""

    def __init__(self, app: ASGIApp, *, allowed: bool) -> None:
        self.app = app
        self.headers = {**SECURITY, **({"Cross-Origin-Resource-Policy": "cross-origin"} if allowed else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, sealed if scope["type"] == "http" else send)


class Errors:
    """What no route foresaw becomes a numbered answer; the log says what it was."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            if scope["type"] != "http":
                raise
            response = answer(error)
            if not begun:
                await response(scope, receive, send)


class Origin:
    """Refuses pages of other sites: those that call us by a name of theirs (DNS rebinding), and those that tell so."""

    def __init__(self, app: ASGIApp, *, config: ServeConfig) -> None:
        self.app, self.allowed = app, frozenset(config.allowed_origins)
        self.hosts = frozenset(LOOPBACK | {config.host.lower()}) if config.local else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host, origin = headers.get("host", ""), headers.get("origin")
            if self.hosts is not None and _name(host) not in self.hosts:
                await refused(403, "this host name is not served", code="wrong_host")(scope, receive, send)
                return
            if origin is not None and not self._fits(origin, host):
                await refused(403, "pages of this origin may not ask", code="wrong_origin")(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _fits(self, origin: str, host: str) -> bool:
        own = origin.partition("://")[2].lower() == host.lower()
        return own or origin in self.allowed or "*" in self.allowed


class Crowd:
    """Counts requests, and tells those beyond what the server takes at a time to come back."""

    def __init__(self, app: ASGIApp, *, hall: Hall, config: ServeConfig) -> None:
        self.app, self.hall, self.most = app, hall, config.max_requests
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]) or scope["path"] == "/metrics":
            await self.app(scope, receive, send)
            return
        if self.inside >= self.most:
            self.hall.metrics.refused.inc()
            busy = refused(429, "too many requests at the same time", code="rate_limit_exceeded", headers=RETRY)
            await busy(scope, receive, send)
            return
        await self._counted(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        metrics, started, status = self.hall.metrics, time.perf_counter(), "cancelled"

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        self.inside += 1
        metrics.open.set(self.inside)
        try:
            await self.app(scope, receive, noting)
        finally:
            self.inside -= 1
            metrics.open.set(self.inside)
            path = _route(scope)
            metrics.requests.labels(path, status).inc()
            metrics.seconds.labels(path).observe(time.perf_counter() - started)


class Key:
    """Lets in who has a key."""

    def __init__(self, app: ASGIApp, *, config: ServeConfig) -> None:
        self.app, self.keys = app, Keys(config.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        closed = scope["type"] == "http" and not is_open(scope["path"]) and scope["path"] != OWN_KEY
        if closed and not self.keys.open(bearer(Headers(scope=scope).get("authorization"))):
            await no_key()(scope, receive, send)
            return
        await self.app(scope, receive, send)


def no_key() -> ASGIApp:
    """The answer to who has no key."""
    message = "a valid API key is needed: Authorization: Bearer KEY"
    return refused(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


class Body:
    """Reads the whole request, of a size and in a time; then stops the route when the client goes away."""

    def __init__(self, app: ASGIApp, *, config: ServeConfig) -> None:
        self.app, self.most, self.seconds = app, config.max_body, config.read_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            with fail_after(self.seconds):
                whole = await self._whole(Headers(scope=scope), receive)
        except TimeoutError:
            late = refused(408, "the request took too long to arrive", code="timeout", headers={"Connection": "close"})
            await late(scope, receive, send)
        except ValueError:
            message = f"the request is too large: at most {self.most:,} bytes"
            large = refused(413, message, code="too_large", headers={"Connection": "close"})
            await large(scope, receive, send)
        else:
            if whole is not None:
                await self._watched(whole, scope, receive, send)

    async def _whole(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body; None if the client has gone; a ValueError if it is too large."""
        told = headers.get("content-length", "0")
        if told.isdecimal() and int(told) > self.most:
            raise ValueError(told)
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size, more = size + len(parts[-1]), message.get("more_body", False)
            if size > self.most:
                raise ValueError(size)
        return b"".join(parts)

    async def _watched(self, whole: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        gone, given = asyncio.Event(), False

        async def replay() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": whole, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        with CancelScope() as work:
            watcher = asyncio.ensure_future(_watch(receive, gone, work))
            try:
                await self.app(scope, replay, send)
            finally:
                watcher.cancel()


async def _watch(receive: Receive, gone: asyncio.Event, work: CancelScope) -> None:
    """Cancel the work when the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()
    work.cancel()


def _route(scope: Scope) -> str:
    """The path as its route writes it: a client cannot make up names of its own."""
    route = scope.get("route")
    return route.path if isinstance(route, Route) else "other"


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
