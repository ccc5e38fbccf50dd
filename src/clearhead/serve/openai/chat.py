"""POST /v1/chat/completions: the answer to a conversation."""

import time
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationInfo, field_validator, model_validator
from starlette.responses import Response

from clearhead.apply import Wish
from clearhead.core.errors import ConfigError
from clearhead.core.recipe import Section
from clearhead.core.registry import Choice
from clearhead.serve.answers import Answers, Piece
from clearhead.serve.config import ServeConfig
from clearhead.serve.hall import Hall, Served
from clearhead.serve.openai.asking import WAYS, Asked, TopLogprobs, check_constraint, prepared, refuse, require_writer
from clearhead.serve.openai.forms import Form, Whole
from clearhead.serve.openai.logprobs import of_chat

TURNS = {"developer": "system"}  # roles that templates do not know -> those that they do


class TextPart(BaseModel):
    """A part of a message; pictures and sound are refused."""

    type: Literal["text"]
    text: str


class Said(BaseModel):
    """One message; what clients send besides is no part of a prompt."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    tool_calls: Any = None
    function_call: Any = None

    @field_validator("tool_calls", "function_call")
    @classmethod
    def _none_such(cls, value: object, info: ValidationInfo) -> object:
        return refuse(info.field_name, value)

    @property
    def message(self) -> dict[str, str]:
        """As templates read it."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(each.text for each in content)
        return {"role": TURNS.get(self.role, self.role), "content": text}


class Schema(Section):
    """A schema and its name."""

    schema_: dict[str, Any] = Field(alias="schema")
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Section):
    """What an answer must be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            expected = '{"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}'
            raise ConfigError("type and json_schema do not go together", expected=expected)
        return self

    @property
    def constraint(self) -> Choice | None:
        """The same for the engine."""
        if self.type == "text":
            return None
        schema = {"type": "object"} if self.json_schema is None else self.json_schema.schema_
        return Choice(kind="json_schema", options={"schema": schema})


class ChatRequest(Asked):
    """A conversation, and how its answer is chosen."""

    messages: Annotated[list[Said], Field(min_length=1)]
    max_completion_tokens: PositiveInt | None = None  # None = as many as the context has room for
    max_tokens: PositiveInt | None = None  # the older name of the same
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    response_format: ResponseFormat | None = None
    tools: Any = None  # this and what follows is refused, unless it asks for nothing
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    audio: Any = None
    web_search_options: Any = None
    modalities: list[Literal["text"]] | None = None
    parallel_tool_calls: Any = None  # without tools this changes no answer, nor does what follows
    prediction: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None

    @field_validator("tools", "tool_choice", "functions", "function_call", "audio", "web_search_options")
    @classmethod
    def _none_such(cls, value: object, info: ValidationInfo) -> object:
        return refuse(info.field_name, value)

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise ConfigError("top_logprobs needs logprobs", remedy="set logprobs to true")
        return self

    def wish(self, config: ServeConfig, stops: tuple[str, ...]) -> Wish:
        """What is wanted of the answers; `stops`: where the model's template ends them."""
        return Wish(
            max_tokens=self.max_completion_tokens or self.max_tokens,
            stop=[*self.stops, *stops],
            sampling=self.sampling(self.response_format.constraint if self.response_format else None),
            n=self.n or 1,
            log_probabilities=(self.top_logprobs or 0) if self.logprobs else None,
            deadline=config.request_seconds,
        )


def routes(hall: Hall, config: ServeConfig) -> APIRouter:
    """POST /v1/chat/completions."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.post("/chat/completions", responses=WAYS)
    async def chat(asked: ChatRequest) -> Response:
        """Answer a conversation, whole or as a stream of events."""
        started, served = time.perf_counter(), hall.find(asked.model)
        require_writer(served)
        served.model.require_chat()
        wish = asked.wish(config, served.model.template.stops)
        await check_constraint(hall, served, wish.sampling.constraint)
        messages = [each.message for each in asked.messages]
        size = sum(len(each["content"]) for each in messages)
        prompt = await prepared(hall, size, partial(served.model.conversation, messages))
        request = served.model.completer.continuing(prompt, wish)
        form = Conversations(served, wish)
        answers = await Answers.begin(hall, served, [request], wish, started=started)
        return await form.response(answers, asked, config)

    return router


class Conversations(Form):
    """Answers in a conversation as OpenAI writes them."""

    whole, part, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def __init__(self, served: Served, wish: Wish) -> None:
        super().__init__(served.name, wish.n)
        self._pieces = served.target if wish.log_probabilities is not None else None
        self._begun: set[int] = set()

    def choice(self, index: int, whole: Whole) -> dict[str, Any]:
        message = {"role": "assistant", "content": whole.text, "refusal": None}
        logprobs = None if self._pieces is None else of_chat(whole.tokens, self._pieces)
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": whole.finish}

    def parts(self, piece: Piece) -> list[dict[str, Any]]:
        found = []
        if piece.choice not in self._begun:
            self._begun.add(piece.choice)
            found.append(_part(piece.choice, {"role": "assistant", "content": ""}))
        if piece.text or piece.tokens:
            logprobs = None if self._pieces is None else of_chat(piece.tokens, self._pieces)
            found.append(_part(piece.choice, {"content": piece.text}, logprobs=logprobs))
        if piece.finish is not None:
            found.append(_part(piece.choice, {}, finish=piece.finish))
        return found


def _part(
    index: int, delta: dict[str, Any], *, logprobs: dict[str, Any] | None = None, finish: str | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
