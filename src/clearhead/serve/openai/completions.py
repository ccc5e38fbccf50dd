"""POST /v1/completions: texts, or tokens, that are continued; what an encoder-decoder makes of them."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationInfo, field_validator, model_validator
from starlette.responses import Response

from clearhead.apply import Wish
from clearhead.apply.completing import beginning
from clearhead.core.errors import ConfigError, DataError
from clearhead.generate import Request
from clearhead.serve.answers import Answers, Piece
from clearhead.serve.config import ServeConfig
from clearhead.serve.hall import Hall, Served
from clearhead.serve.openai.asking import WAYS, Asked, TopLogprobs, prepared, refuse, require_writer
from clearhead.serve.openai.forms import Form, Whole
from clearhead.serve.openai.logprobs import of_completion

Tokens = Annotated[list[NonNegativeInt], Field(min_length=1)]
MAX_TOKENS = 16  # OpenAI's default


class CompletionRequest(Asked):
    """What is to be continued, and how."""

    prompt: str | Tokens | Annotated[list[str] | list[Tokens], Field(min_length=1)]
    max_tokens: PositiveInt | None = None  # None = 16, as OpenAI has it
    logprobs: TopLogprobs | None = None  # of each token, and of so many most probable ones
    echo: bool | None = None  # begin the answer with the prompt
    best_of: PositiveInt | None = None
    suffix: Any = None

    @field_validator("suffix")
    @classmethod
    def _none_such(cls, value: object, info: ValidationInfo) -> object:
        return refuse(info.field_name, value or None)

    @model_validator(mode="after")
    def _fits_together(self) -> "CompletionRequest":
        if self.best_of is not None and self.best_of != (self.n or 1):
            remedy = "leave best_of out, and choose among n answers by their logprobs"
            raise ConfigError("this server has no best_of", found=f"best_of {self.best_of}", remedy=remedy)
        if self.echo and self.logprobs is not None:
            raise ConfigError("the prompt has no logprobs here", remedy="leave echo or logprobs out")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """All prompts, whatever form the client gave them in."""
        given: Any = self.prompt
        single = isinstance(given, str) or isinstance(given[0], int)
        return [given] if single else list(given)

    def wish(self, config: ServeConfig) -> Wish:
        """What is wanted of the answers."""
        return Wish(
            max_tokens=self.max_tokens or MAX_TOKENS,
            stop=self.stops,
            sampling=self.sampling(),
            n=self.n or 1,
            log_probabilities=self.logprobs,
            deadline=config.request_seconds,
        )


def routes(hall: Hall, config: ServeConfig) -> APIRouter:
    """POST /v1/completions."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.post("/completions", responses=WAYS)
    async def complete(asked: CompletionRequest) -> Response:
        """Continue texts, whole or as a stream of events."""
        started, served = time.perf_counter(), hall.find(asked.model)
        require_writer(served)
        prompts = asked.prompts
        require_few(len(prompts), config)
        wish = asked.wish(config)
        requests = await prepared(hall, sum(map(len, prompts)), partial(_requests, served, prompts, wish))
        echoes = [_text(served, each) for each in prompts] if asked.echo else []
        form = Completions(served, wish, [each for each in echoes for _ in range(wish.n)], len(prompts))
        answers = await Answers.begin(hall, served, requests, wish, started=started)
        return await form.response(answers, asked, config)

    return router


class Completions(Form):
    """Completions as OpenAI writes them."""

    whole, part, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(self, served: Served, wish: Wish, echoes: Sequence[str], prompts: int) -> None:
        super().__init__(served.name, prompts * wish.n)
        self._pieces = served.target if wish.log_probabilities is not None else None
        self._echoes = echoes

    def choice(self, index: int, whole: Whole) -> dict[str, Any]:
        text = self._echo(index) + whole.text
        logprobs = None if self._pieces is None else of_completion(whole.tokens, self._pieces, 0)
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": whole.finish}

    def parts(self, piece: Piece) -> list[dict[str, Any]]:
        before = self.wholes[piece.choice]
        logprobs = None if self._pieces is None else of_completion(piece.tokens, self._pieces, len(before.text))
        text = piece.text if before.text else self._echo(piece.choice) + piece.text
        return [{"index": piece.choice, "text": text, "logprobs": logprobs, "finish_reason": piece.finish}]

    def _echo(self, index: int) -> str:
        return self._echoes[index] if self._echoes else ""


def require_few(texts: int, config: ServeConfig) -> None:
    """Refuse more texts than one request may have."""
    if texts > config.max_texts:
        raise DataError("too many texts in one request", found=texts, expected=f"at most {config.max_texts}")


def _requests(served: Served, prompts: Sequence[str | list[int]], wish: Wish) -> list[Request]:
    return [_request(served, each, wish) for each in prompts]


def _request(served: Served, prompt: str | list[int], wish: Wish) -> Request:
    """Tokens are taken as they are: by a decoder as its prompt, by an encoder as its source."""
    completer = served.model.completer
    if isinstance(prompt, str):
        return completer.request(prompt, wish)
    if served.kind == "encoder-decoder":
        return completer.continuing(beginning(served.model.bundle), wish, prompt)
    return completer.continuing(prompt, wish)


def _text(served: Served, prompt: str | list[int]) -> str:
    return prompt if isinstance(prompt, str) else served.model.bundle.source.decode(prompt)
