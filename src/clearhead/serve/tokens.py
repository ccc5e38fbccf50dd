"""Texts to tokens and back, as the model cuts them."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter
from pydantic import Field, NonNegativeInt, model_validator
from starlette.responses import Response

from clearhead.core.errors import ConfigError
from clearhead.core.recipe import Section
from clearhead.serve.config import ServeConfig
from clearhead.serve.errors import Json
from clearhead.serve.hall import Hall, Served
from clearhead.serve.openai.asking import prepared
from clearhead.serve.openai.chat import Said

if TYPE_CHECKING:
    from clearhead.text import Tokenizer

Side = Literal["source", "target"]


class TokenizeRequest(Section):
    """A text, or a conversation."""

    prompt: str | None = None
    messages: Annotated[list[Said], Field(min_length=1)] | None = None
    model: str | None = None  # None = the first one that is served
    side: Side = "source"  # of a translator: the language that it reads or the one that it writes

    @model_validator(mode="after")
    def _one_of_them(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise ConfigError("exactly one of prompt and messages is needed")
        return self


class DetokenizeRequest(Section):
    """Ids."""

    tokens: Annotated[list[NonNegativeInt], Field(max_length=100_000)]
    model: str | None = None
    side: Side = "target"
    special: bool = False  # write special tokens too


def routes(hall: Hall, config: ServeConfig) -> APIRouter:
    """POST /tokenize and /detokenize."""
    router = APIRouter(tags=["tokens"])

    @router.post("/tokenize")
    async def tokenize(asked: TokenizeRequest) -> Response:
        """The ids of a text and what each of them writes; a conversation as the prompt that the model reads."""
        served = hall.find(asked.model)
        messages = [each.message for each in asked.messages or []]
        size = sum(len(each["content"]) for each in messages) + len(asked.prompt or "")
        tokens, pieces = await prepared(hall, size, partial(_cut, served, asked, messages))
        context = served.model.bundle.model.config.length
        return Json({"count": len(tokens), "max_model_len": context, "tokens": tokens, "pieces": pieces})

    @router.post("/detokenize")
    async def detokenize(asked: DetokenizeRequest) -> Response:
        """The text of some ids."""
        served = hall.find(asked.model)
        tokenizer = _tokenizer(served, asked.side)
        work = partial(tokenizer.decode, asked.tokens, skip_special=not asked.special)
        return Json({"prompt": await prepared(hall, len(asked.tokens), work)})

    return router


def _cut(served: Served, asked: TokenizeRequest, messages: list[dict[str, str]]) -> tuple[list[int], list[str]]:
    tokenizer, pieces = _tokenizer(served, asked.side), served.source if asked.side == "source" else served.target
    tokens = served.model.conversation(messages) if asked.prompt is None else tokenizer.encode(asked.prompt)
    return tokens, [pieces.text(each) for each in tokens]


def _tokenizer(served: Served, side: Side) -> "Tokenizer":
    bundle = served.model.bundle
    return bundle.source if side == "source" else bundle.target
