"""The page: the files of the folder `page`, read once when the server starts, and no others."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from clearhead.serve.config import ServeConfig
from clearhead.serve.hall import Hall

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class File:
    """One file of the page."""

    content: bytes
    media_type: str
    tag: str  # changes with the content

    @classmethod
    def read(cls, path: Path, media_type: str) -> "File":
        """Read it."""
        content = path.read_bytes()
        return cls(content, media_type, f'"{sha256(content).hexdigest()[:32]}"')


def files() -> dict[str, File]:
    """The files of the package by name."""
    folder = Path(__file__).parent / "page"
    return {each.name: File.read(each, TYPES[each.suffix]) for each in folder.iterdir() if each.suffix in TYPES}


def routes(hall: Hall, config: ServeConfig) -> APIRouter:
    """The routes: /, /page/NAME, and the picture that browsers ask for by themselves."""
    router, found = APIRouter(include_in_schema=False), files()

    @router.api_route("/", methods=["GET", "HEAD"])
    async def index(request: Request) -> Response:
        return sent(found["index.html"], request)

    @router.api_route("/favicon.ico", methods=["GET", "HEAD"])
    async def icon(request: Request) -> Response:
        return sent(found["icon.svg"], request)

    @router.api_route("/page/{name}", methods=["GET", "HEAD"])
    async def file(name: str, request: Request) -> Response:
        if name not in found:
            raise HTTPException(404)
        return sent(found[name], request)

    return router


def sent(file: File, request: Request) -> Response:
    """A file, or word that the browser has it already."""
    headers = {"ETag": file.tag, "Cache-Control": "no-cache"}  # no-cache: keep it, but ask whether it is the newest
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
