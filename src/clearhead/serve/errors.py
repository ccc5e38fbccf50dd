"""From any failure to an answer in the form that OpenAI's clients read; nothing of the machine is in it."""

import json
import logging
import re
import uuid
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from clearhead.core.errors import ClearheadError, one_line
from clearhead.generate import BusyError

LOG = logging.getLogger("clearhead.serve")
FOLDERS = re.compile(r"(?<![\w:/.])(?:[A-Za-z]:)?[/\\](?:[\w.@~+-]+[/\\])+")  # of an absolute path
RETRY = {"Retry-After": "1"}
FINAL = {"x-should-retry": "false"}  # OpenAI's clients ask again after a 5xx, which would only add to the load


class UnknownModelError(ClearheadError):
    """A client asks for a model that is not served."""


class LateError(ClearheadError):
    """An answer took longer than the server allows."""


class UnavailableError(ClearheadError):
    """The server is closing, or an engine has ended."""


class InternalError(ClearheadError):
    """Something of ours broke; the log says what, under the number in this message."""

    def __init__(self, cause: object) -> None:
        number = uuid.uuid4().hex[:12]
        LOG.error("error %s: %s", number, cause, exc_info=cause if isinstance(cause, BaseException) else None)
        super().__init__(f"internal error {number}")


class Json(JSONResponse):
    """JSON of any text; what no UTF-8 can hold becomes a question mark."""

    def render(self, content: Any) -> bytes:
        return dumped(content)


def dumped(content: Any) -> bytes:
    """JSON as it goes over the wire."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")


class Fault(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Failure(BaseModel):
    """An error as OpenAI writes it; the schema of every answer that is none."""

    error: Fault


FAILURES: dict[int | str, dict[str, Any]] = {"4XX": {"model": Failure}, "5XX": {"model": Failure}}
KINDS: Mapping[type[ClearheadError], tuple[int, str, str | None]] = {  # status, type, code; the first that fits
    UnknownModelError: (404, "invalid_request_error", "model_not_found"),
    BusyError: (429, "rate_limit_error", "rate_limit_exceeded"),
    LateError: (503, "server_error", "timeout"),
    UnavailableError: (503, "server_error", "unavailable"),
    InternalError: (500, "server_error", "internal_error"),
    ClearheadError: (400, "invalid_request_error", None),
}


def body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI writes it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def told(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body of any error; what is not the client's mistake is logged and only numbered."""
    known = error if isinstance(error, ClearheadError) else InternalError(error)
    status, kind, code = next(each for family, each in KINDS.items() if isinstance(known, family))
    return status, body(_harmless(known), kind, code=code)


def answer(error: Exception) -> Json:
    """The response that tells an error."""
    status, content = told(error)
    headers = {429: RETRY, 503: FINAL}.get(status)
    return Json(content, status, headers)


def refused(status: int, message: str, *, code: str, headers: Mapping[str, str] | None = None) -> Json:
    """A refusal before any route has seen the request."""
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    return Json(body(message, kind, code=code), status, dict(headers or {}))


def tell_errors(app: FastAPI) -> None:
    """Let an application answer every error in this form."""

    async def known(request: Request, error: Exception) -> Json:
        return answer(error)

    async def invalid(request: Request, error: Exception) -> Json:
        assert isinstance(error, RequestValidationError)
        return Json(_invalid(error), 400)

    async def plain(request: Request, error: Exception) -> Json:
        assert isinstance(error, HTTPException)
        words = {404: "there is nothing here", 405: "this address does not take this method"}
        message = words.get(error.status_code, one_line(str(error.detail)))
        return Json(body(message, "invalid_request_error"), error.status_code, dict(error.headers or {}))

    app.add_exception_handler(ClearheadError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)


def _invalid(error: RequestValidationError) -> dict[str, Any]:
    """The first thing that is wrong with a body."""
    problem = error.errors()[0]
    places = [str(each) for each in problem["loc"] if each not in ("body", "query", "path")]
    message = problem["msg"].removeprefix("Value error, ")
    param = ".".join(places) or None
    if problem["type"] == "json_invalid":
        message, param = "the body is not JSON", None
    if problem["type"] == "extra_forbidden":
        message = f"unknown parameter: {param}"
    return body(one_line(message if param is None else f"{param}: {message}"), "invalid_request_error", param=param)


def _harmless(error: ClearheadError) -> str:
    """The message without the folders of this machine."""
    return FOLDERS.sub("", str(error))
