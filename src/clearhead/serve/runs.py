"""Training runs for the page: which there are, and their curves as they grow. It reads `metrics.jsonl` by itself."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Query

from clearhead.core.errors import ClearheadError
from clearhead.serve.config import ServeConfig
from clearhead.serve.errors import Json, UnknownModelError
from clearhead.serve.hall import Hall

METRICS = "metrics.jsonl"
PART = 1 << 20  # bytes of one answer
RECIPE = 1 << 16  # bytes of a recipe that is shown
LISTED = 500  # runs
Offset = Annotated[int, Query(ge=0, le=2**53)]


class UnknownRunError(UnknownModelError):
    """A client asks for a run that is not there."""


def routes(hall: Hall, config: ServeConfig) -> APIRouter:
    """The routes; without a folder of runs there are none to see."""
    router = APIRouter(prefix="/api/runs", tags=["runs"])
    folder = config.runs

    @router.get("")
    async def runs() -> Json:
        """The runs, the one that was last written to first."""
        found = [] if folder is None else await hall.compute(lambda: [about(*each) for each in listed(folder)])
        found.sort(key=lambda each: -float(each["changed"]))
        return Json({"served": folder is not None, "runs": found[:LISTED]})

    @router.get("/{name}")
    async def recipe(name: str) -> Json:
        """What a run does."""
        return Json(await hall.compute(lambda: details(found_run(folder, name))))

    @router.get("/{name}/metrics")
    async def metrics(name: str, offset: Offset = 0, edition: str = "") -> Json:
        """The lines after an offset; `next` and `edition` are what to ask with the next time."""
        return Json(await hall.compute(lambda: news(found_run(folder, name) / METRICS, offset, edition)))

    return router


def listed(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of each run: those inside the folder, and the folder itself if it is one.

    A link that leads out of the folder is not followed.
    """
    home = folder.resolve()
    if (home / METRICS).is_file():
        yield home.name, home
    with contextlib.suppress(OSError):
        for each in sorted(home.iterdir()):
            metrics = (each / METRICS).resolve()
            if metrics.is_file() and metrics.is_relative_to(home) and not each.name.startswith("."):
                yield each.name, each


def found_run(folder: Path | None, name: str) -> Path:
    """The folder of a run; only names that are listed are ever looked at."""
    for known, path in () if folder is None else listed(folder):
        if known == name:
            return path
    raise UnknownRunError("no such run", found=name, remedy="reload the list of runs")


def about(name: str, path: Path) -> dict[str, Any]:
    """One line of the list."""
    state = (path / METRICS).stat()
    return {
        "name": name,
        "changed": state.st_mtime,
        "bytes": state.st_size,
        "finished": (path / "config.json").is_file(),
    }


def details(path: Path) -> dict[str, Any]:
    """The recipe of a run as text, and how many updates it plans, where it says so."""
    text, recipe = "", path / "recipe.yaml"
    if recipe.resolve().is_relative_to(path.resolve()):
        with contextlib.suppress(OSError), open(recipe, "rb") as file:
            text = file.read(RECIPE).decode("utf-8", errors="replace")
    return {"recipe": text, "updates": _planned(text), "finished": (path / "config.json").is_file()}


def news(path: Path, offset: int, edition: str) -> dict[str, Any]:
    """What was written to a file after an offset, whole lines only.

    A resumed run writes its file anew. Then the edition is another one, and reading begins again at its start.
    """
    try:
        with open(path, "rb") as file:
            state = os.fstat(file.fileno())
            now = f"{state.st_dev:x}-{state.st_ino:x}"
            anew = now != edition or offset > state.st_size
            start = 0 if anew else offset
            file.seek(start)
            part = file.read(PART)
    except OSError as error:
        raise ClearheadError("the curves of this run cannot be read", found=(error.strerror or "").lower()) from None
    whole = part.rfind(b"\n") + 1 or (len(part) if len(part) == PART else 0)  # a line of a megabyte is no line
    following = start + whole
    return {
        "lines": list(lines(part[:whole])),
        "next": following,
        "edition": now,
        "anew": anew,
        "more": following < state.st_size and len(part) == PART,
        "changed": state.st_mtime,
    }


def lines(raw: bytes) -> Iterator[dict[str, Any]]:
    """The lines that say something; one that was cut off is left out."""
    for text in raw.decode("utf-8", errors="replace").split("\n"):
        with contextlib.suppress(ValueError, RecursionError, OverflowError):
            line = json.loads(text)
            if isinstance(line, dict) and isinstance(line.get("update"), int) and isinstance(line.get("kind"), str):
                yield {name: value for name, value in line.items() if _tells(value)}


def _tells(value: object) -> bool:
    """Whether a page can show it: a number, a text, or samples of texts."""
    if isinstance(value, list):
        return all(isinstance(each, dict) and all(isinstance(text, str) for text in each.values()) for each in value)
    return isinstance(value, str) or (isinstance(value, (int, float)) and math.isfinite(value))


def _planned(recipe: str) -> int | None:
    with contextlib.suppress(yaml.YAMLError, RecursionError, LookupError, TypeError, ValueError):
        updates = yaml.safe_load(recipe)["train"]["updates"]
        return updates if isinstance(updates, int) and not isinstance(updates, bool) else None
    return None
