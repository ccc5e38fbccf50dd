"""From pieces of answers to OpenAI's JSON, whole or as a stream. A form says how one kind of answer is written."""

import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from starlette.responses import Response

from clearhead.core.errors import ClearheadError
from clearhead.generate import Event
from clearhead.serve.answers import Answers, Piece
from clearhead.serve.config import ServeConfig
from clearhead.serve.errors import Json, told
from clearhead.serve.openai.asking import Asked
from clearhead.serve.sse import DONE, EventStream, Tell, event


@dataclass
class Whole:
    """One answer so far."""

    text: str = ""
    tokens: list[Event] = field(default_factory=list)
    finish: str | None = None

    def add(self, piece: Piece) -> None:
        """Take in what is new."""
        self.text += piece.text
        self.tokens += piece.tokens
        self.finish = piece.finish


class Form:
    """How answers are written.

    Args:
        model: its name.
        choices: how many answers there will be.
    """

    whole: ClassVar[str]  # what an answer calls itself
    part: ClassVar[str]  # what a part of a stream does
    prefix: ClassVar[str]  # of identities

    def __init__(self, model: str, choices: int) -> None:
        self.model = model
        self.identity, self.created = f"{self.prefix}-{uuid.uuid4().hex}", int(time.time())
        self.wholes = [Whole() for _ in range(choices)]

    def choice(self, index: int, whole: Whole) -> dict[str, Any]:
        """A whole answer."""
        raise NotImplementedError

    def parts(self, piece: Piece) -> list[dict[str, Any]]:
        """The parts of a stream that tell a piece; the answer so far does not hold it yet."""
        raise NotImplementedError

    async def response(self, answers: Answers, asked: Asked, config: ServeConfig) -> Response:
        """What the client wished: all answers at once, or a stream of events."""
        if asked.stream:
            write = partial(self.stream, answers, tells_usage=asked.tells_usage)
            return EventStream(write, seconds=config.read_seconds)
        return Json(await self.answered(answers))

    async def answered(self, answers: Answers) -> dict[str, Any]:
        """All answers at once."""
        await answers.run(self._take)
        choices = [self.choice(index, each) for index, each in enumerate(self.wholes)]
        return {**self._head(self.whole), "choices": choices, "usage": usage(answers)}

    async def stream(self, answers: Answers, tell: Tell, *, tells_usage: bool) -> None:
        """All answers in parts; what goes wrong is told as the last one."""
        nothing = {"usage": None} if tells_usage else {}

        async def write(pieces: list[Piece]) -> None:
            parts = [part for piece in pieces for part in self._taken(piece)]
            await tell(b"".join(event({**self._head(self.part), "choices": [each], **nothing}) for each in parts))

        try:
            await answers.run(write)
            if tells_usage:
                await tell(event({**self._head(self.part), "choices": [], "usage": usage(answers)}))
        except ClearheadError as error:
            await tell(event(told(error)[1]))
        await tell(DONE)

    async def _take(self, pieces: list[Piece]) -> None:
        for each in pieces:
            self.wholes[each.choice].add(each)

    def _taken(self, piece: Piece) -> list[dict[str, Any]]:
        parts = self.parts(piece)
        self.wholes[piece.choice].add(piece)
        return parts

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.identity, "object": kind, "created": self.created, "model": self.model}


def usage(answers: Answers) -> dict[str, int]:
    """The tokens of a call."""
    prompt, chosen = answers.prompt_tokens, answers.chosen_tokens
    return {"prompt_tokens": prompt, "completion_tokens": chosen, "total_tokens": prompt + chosen}
