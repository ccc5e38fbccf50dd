"""clearhead serve: models over HTTP."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearhead.cli.options import Device, Weights
from clearhead.core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from clearhead.serve.config import ServeConfig

LIBRARIES = ("fastapi", "uvicorn", "prometheus_client")
KEY = "CLEARHEAD_API_KEY"  # in the environment, where other users of the machine do not see it
WARNING = "clearhead: warning: anybody who reaches {} may use these models: give a key with --api-key, or in {}"


def command(
    models: Annotated[
        list[str], typer.Argument(help="Folders of runs or bundles; NAME=FOLDER gives another name.", metavar="MODEL")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 = all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 = any that is free.")] = 8000,
    api_key: Annotated[
        list[str] | None, typer.Option(help=f"A key that clients need; may be given again; also {KEY}.", metavar="KEY")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="A site whose pages may ask, e.g. https://example.org.", metavar="URL")
    ] = None,
    languages: Annotated[
        list[str] | None, typer.Option(help="What a translator reads and writes, e.g. demo=zh-en.", metavar="NAME=A-B")
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="Folder of run folders, for the page.", metavar="DIR")] = None,
    lab: Annotated[Path | None, typer.Option(help="Folder of a lab report, for the page.", metavar="DIR")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Answers of a model computed at the same time.")] = None,
    max_requests: Annotated[int | None, typer.Option(min=1, help="Requests at the same time; more get a 429.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which an answer is given up.")] = None,
    grace: Annotated[float | None, typer.Option(help="Seconds for what runs when the server is stopped.")] = None,
    cache: Annotated[str, typer.Option(help="Keys and values: dense, paged, windowed or int8.")] = "paged",
    device: Device = "cpu",
    weights: Weights = "float32",
) -> None:
    """Serve models: the API of OpenAI, that of LibreTranslate, and a page. Ctrl-C stops it.

    Example: clearhead serve runs/demo --languages demo=zh-en
    """
    _require_libraries()
    from clearhead.serve.hall import Hall
    from clearhead.serve.server import address, listen, run

    for name, folder in (("--runs", runs), ("--lab", lab)):
        if folder is not None and not folder.is_dir():
            raise UsageError("no such folder", where=name, found=folder, remedy="check the path")
    keys = [*(api_key or []), *filter(None, [os.environ.get(KEY)])]
    given = {"host": host, "port": port, "api_keys": keys, "allowed_origins": allow_origin or [], "runs": runs}
    given |= {"lab": lab, "languages": dict(map(_pair, languages or [])), "device": device}
    given |= {"max_requests": max_requests, "request_seconds": timeout, "grace_seconds": grace}
    config = _config(given, cache, rows)
    with listen(config) as listener:  # before the models are read, which takes longer
        where = address(config, listener)
        hall = Hall.open(models, engine=config.engine, device=device, weights=weights, backlog=config.backlog)
        if not (config.local or config.api_keys):
            print(WARNING.format(where, KEY), file=sys.stderr)
        run(hall, config, listener, lambda: print(f"serving {', '.join(hall.models)} at {where}", flush=True))


def _config(given: dict[str, Any], cache: str, rows: int | None) -> "ServeConfig":
    """The settings that were given on top of the usual ones."""
    from pydantic import ValidationError

    from clearhead.serve.config import LIMITS, ServeConfig

    limits = LIMITS.model_dump() | ({} if rows is None else {"rows": rows, "step_tokens": LIMITS.step_tokens + rows})
    settings = {name: value for name, value in given.items() if value is not None}
    try:
        return ServeConfig.model_validate({**settings, "engine": {"cache": cache, "limits": limits}})
    except ValidationError as error:
        raise _told(error) from None


def _require_libraries() -> None:
    """Say what to install, where that is missing."""
    missing = [each for each in LIBRARIES if find_spec(each) is None]
    if missing:
        raise UsageError(f"serving needs {', '.join(missing)}", remedy="pip install 'clearhead[serve]'")


def _told(error: Any) -> UsageError:
    """The first problem as one line."""
    problem = error.errors()[0]
    where = ".".join(str(each) for each in problem["loc"])
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return UsageError(cause.what, where=where, found=cause.found, expected=cause.expected, remedy=cause.remedy)
    return UsageError(problem["msg"].lower(), where=where, found=problem["input"])


def _pair(text: str) -> tuple[str, str]:
    """Name and languages of an option such as demo=zh-en."""
    name, equals, both = text.partition("=")
    source, dash, target = both.partition("-")
    if not (name and equals and source and dash and target):
        raise UsageError("no languages", where="--languages", found=repr(text), expected="NAME=SOURCE-TARGET")
    return name, both
