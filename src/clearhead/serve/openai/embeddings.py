"""POST /v1/embeddings: texts as vectors."""

import base64
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field, NonNegativeInt, PositiveInt
from starlette.responses import Response
from torch import Tensor

from clearhead.apply.embedding import embed_tokens, reading
from clearhead.core.errors import ConfigError
from clearhead.core.recipe import Section
from clearhead.serve.config import ServeConfig
from clearhead.serve.errors import Json
from clearhead.serve.hall import Hall, Served
from clearhead.serve.openai.completions import require_few

Tokens = Annotated[list[NonNegativeInt], Field(min_length=1)]


class EmbeddingRequest(Section):
    """Texts, or tokens, and how their vectors are written."""

    input: str | Tokens | Annotated[list[str] | list[Tokens], Field(min_length=1)]
    model: str | None = None  # None = the first one that is served
    encoding_format: Literal["float", "base64"] | None = None  # base64: of little-endian float32
    dimensions: PositiveInt | None = None
    user: Any = None

    @property
    def inputs(self) -> list[str | list[int]]:
        """All inputs, whatever form the client gave them in."""
        given: Any = self.input
        single = isinstance(given, str) or isinstance(given[0], int)
        return [given] if single else list(given)


def routes(hall: Hall, config: ServeConfig) -> APIRouter:
    """POST /v1/embeddings."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.post("/embeddings")
    async def embeddings(asked: EmbeddingRequest) -> Response:
        """The mean of the last hidden states of each text, of length one."""
        served, inputs = hall.find(asked.model), asked.inputs
        require_few(len(inputs), config)
        _require_size(served, asked.dimensions)
        vectors, tokens = await hall.compute(partial(_embedded, served, inputs))
        written = _written(vectors, asked.encoding_format or "float")
        data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(written)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return Json({"object": "list", "data": data, "model": served.name, "usage": usage})

    return router


def _embedded(served: Served, inputs: list[str | list[int]]) -> tuple[Tensor, int]:
    """Vectors, (texts, d_model), and the number of tokens that were read."""
    rows = [reading(served.model.bundle, each) if isinstance(each, str) else each for each in inputs]
    return embed_tokens(served.model, rows), sum(map(len, rows))


def _written(vectors: Tensor, form: str) -> list[Any]:
    if form == "float":
        found: list[Any] = vectors.tolist()
        return found
    return [base64.b64encode(each.tobytes()).decode() for each in vectors.numpy().astype("<f4")]


def _require_size(served: Served, wanted: int | None) -> None:
    """A vector cannot be cut without loss: no model here was trained for that."""
    size = served.model.bundle.model.config.d_model
    if wanted not in (None, size):
        raise ConfigError("vectors of this model have another size", found=wanted, expected=size)
