"""Whether the server lives, whether it takes requests, and what it has done."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from clearhead.serve.config import ServeConfig
from clearhead.serve.errors import Json
from clearhead.serve.hall import Hall


def routes(hall: Hall, config: ServeConfig) -> APIRouter:
    """GET /health, /ready and /metrics."""
    router = APIRouter(tags=["health"])

    @router.get("/health")
    async def health() -> Response:
        """The process answers."""
        return Json({"status": "ok"})

    @router.get("/ready")
    async def ready() -> Response:
        """All models take requests."""
        ended = [each.name for each in hall.models.values() if each.engine is not None and not each.engine.alive]
        good = not hall.closing and not ended
        return Json({"status": "ready" if good else "not ready"}, 200 if good else 503)

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(hall.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
