"""The application: routers of all rooms behind the guards that every request passes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import clearhead
from clearhead.serve import health, inside, lab_report, libretranslate, page_files, runs, tokens
from clearhead.serve.config import ServeConfig
from clearhead.serve.errors import FAILURES, tell_errors
from clearhead.serve.guards import guard
from clearhead.serve.hall import Hall
from clearhead.serve.openai import chat, completions, embeddings, models

OPENAI = (models, completions, chat, embeddings)
PAGE = (page_files, inside, runs, lab_report)
ROUTERS = (*OPENAI, *PAGE, libretranslate, tokens, health)  # each has routes(hall, config)


def application(hall: Hall, config: ServeConfig) -> FastAPI:
    """The server of some models; it closes them when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await hall.aclose()

    app = FastAPI(
        title="Clearhead",
        version=clearhead.__version__,
        docs_url=None,  # that page asks other servers for its scripts
        redoc_url=None,
        lifespan=lifespan,
        responses=FAILURES,
    )
    for each in ROUTERS:
        app.include_router(each.routes(hall, config))
    tell_errors(app)
    guard(app, hall, config)
    return app
