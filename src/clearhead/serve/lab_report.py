"""The report of the lab under /lab/: the folder that `clearhead lab report` made, and nothing outside it."""

import contextlib
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from clearhead.core.errors import ClearheadError
from clearhead.core.files import read_json
from clearhead.serve.config import ServeConfig
from clearhead.serve.errors import Json
from clearhead.serve.hall import Hall

TYPES = {  # what a report consists of; other files are not handed out
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
POLICY = (  # its pages hold their own styles and one script; they ask nobody for anything but their pictures
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Frame-Options": "SAMEORIGIN", "Cache-Control": "no-cache"}
PICTURE = {**HEADERS, "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


def routes(hall: Hall, config: ServeConfig) -> APIRouter:
    """The routes; without a folder there is nothing under /lab/."""
    router = APIRouter(tags=["lab"])
    folder = config.lab

    @router.get("/api/lab")
    async def overview() -> Json:
        """The questions of the report and the verdicts of their claims."""
        found = [] if folder is None else await to_thread.run_sync(questions, folder)
        return Json({"served": folder is not None, "questions": found})

    @router.get("/lab", include_in_schema=False)
    async def bare() -> Response:
        return RedirectResponse("/lab/", 308)

    @router.get("/lab/{path:path}", include_in_schema=False)
    async def file(path: str) -> Response:
        inside = None if folder is None else await to_thread.run_sync(resolved, folder, path or "index.html")
        if inside is None:
            raise HTTPException(404)
        headers = PICTURE if inside.suffix == ".svg" else HEADERS
        content = await to_thread.run_sync(inside.read_bytes)
        return Response(content, media_type=TYPES[inside.suffix], headers=headers)

    return router


def resolved(folder: Path, path: str) -> Path | None:
    """The file that a path means; None for one outside the folder, links included, and for one that is no report's."""
    home = folder.resolve()
    with contextlib.suppress(OSError, ValueError):  # a name too long, a zero byte
        found = (home / path.lstrip("/")).resolve()
        if found.is_relative_to(home) and found.suffix in TYPES and found.is_file():
            return found
    return None


def questions(folder: Path) -> list[dict[str, Any]]:
    """One line for each question; a file that cannot be read is left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(ClearheadError, AttributeError, LookupError, TypeError):
            about = read_json(path, ClearheadError)
            verdicts = [str(each["verdict"]) for each in about["verdicts"]]
            if resolved(folder, f"{path.stem}.html") is not None:
                found.append({"id": path.stem, "title": _title(about), "verdicts": verdicts})
    return found


def _title(about: dict[str, Any]) -> dict[str, str]:
    """In both languages; older reports have none."""
    title = about.get("title") or {}
    return {language: str(title.get(language) or about["id"]) for language in ("en", "zh")}
