"""GET /v1/models: what is served."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from clearhead.serve.config import ServeConfig
from clearhead.serve.errors import Json
from clearhead.serve.hall import Hall, Served


def routes(hall: Hall, config: ServeConfig) -> APIRouter:
    """The list, and one of it."""
    router = APIRouter(prefix="/v1/models", tags=["OpenAI"])

    @router.get("")
    async def models() -> Response:
        """All models, in the order in which they were named; `kind` and `context` are ours."""
        return Json({"object": "list", "data": [described(each) for each in hall.models.values()]})

    @router.get("/{name:path}")
    async def model(name: str) -> Response:
        """One model."""
        return Json(described(hall.find(name)))

    return router


def described(served: Served) -> dict[str, Any]:
    """A model as the list shows it."""
    config = served.model.bundle.model.config
    standard = {"id": served.name, "object": "model", "created": served.created, "owned_by": "clearhead"}
    return {**standard, "kind": served.kind, "context": config.length}
