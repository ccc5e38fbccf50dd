"""Conversations as prompts: by the chat template that came with a model, or by a plain one.

A template is a small program of whoever made the model: jinja runs it in a sandbox. What people write cannot forge the
tokens that mark whose turn it is: those are taken from the template's own text only.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from clearhead.core.errors import DataError, ModelError
from clearhead.text import Tokenizer

Message = Mapping[str, str]  # {"role": "user", "content": "..."}
PLAIN = """{% for message in messages %}{{ message.role }}: {{ message.content }}
{% endfor %}assistant:"""
PLAIN_STOPS = ("\nuser:", "\nsystem:")  # where a model that has never seen a turn goes on with the next one
BREAK = "\ue000"  # stands inside what looks like a special token and is none; a private character of Unicode


class ChatTemplate:
    """Messages to the tokens that an answer continues.

    Args:
        tokenizer: of the model.
        source: the template; None = a plain one for models without.

    Raises:
        ModelError: the template cannot be read.
    """

    def __init__(self, tokenizer: Tokenizer, source: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.plain = source is None
        self.stops: tuple[str, ...] = PLAIN_STOPS if source is None else ()
        self._special = {
            token: index for index in tokenizer.special_ids for token in tokenizer.tokens([index]) if token
        }
        extensions = ["jinja2.ext.loopcontrols", GenerationTag]
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
        environment.filters["tojson"] = _as_json
        environment.globals |= {"raise_exception": _raise, "strftime_now": lambda how: datetime.now().strftime(how)}
        try:
            self._template = environment.from_string(PLAIN if source is None else source)
        except TemplateError as error:
            raise ModelError("the chat template of this model cannot be read", found=error) from None

    def text(self, messages: Sequence[Message]) -> str:
        """The prompt as text, special tokens as the vocabulary writes them.

        Raises:
            DataError: no messages, one without role or content, or the template refuses them.
        """
        return self._rendered(messages).replace(BREAK, "")

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids of the prompt; errors as those of `text`."""
        rendered = self._rendered(messages)
        pattern = "|".join(re.escape(each) for each in sorted(self._special, key=len, reverse=True))
        parts = re.split(f"({pattern})", rendered) if pattern else [rendered]
        ids = []
        for part in parts:
            ids += [self._special[part]] if part in self._special else self._encoded(part)
        return ids

    def _encoded(self, part: str) -> list[int]:
        return self.tokenizer.encode(part.replace(BREAK, "")) if part else []

    def _rendered(self, messages: Sequence[Message]) -> str:
        given = [self._checked(number, each) for number, each in enumerate(messages, start=1)]
        if not given:
            raise DataError("there is no message to answer", remedy="begin with one of the role user")
        names = {f"{role}_token": self._token(role) for role in ("bos", "eos", "pad", "unk")}
        try:
            return str(self._template.render(messages=given, add_generation_prompt=True, **names))
        except SecurityError as error:
            raise ModelError("the chat template of this model tries what no template may do", found=error) from None
        except TemplateError as error:
            raise DataError("the chat template of this model refuses the conversation", found=error) from None
        except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError, OverflowError) as error:
            raise ModelError("the chat template of this model fails", found=error) from None

    def _checked(self, number: int, message: Message) -> dict[str, Any]:
        """A message whose words are no special tokens."""
        for key in ("role", "content"):
            if not isinstance(message, Mapping) or not isinstance(message.get(key), str):
                expected = '{"role": "user", "content": "..."}'
                raise DataError(f"a message needs a {key}", where=f"message {number}", expected=expected)
        return {key: self._harmless(value) if isinstance(value, str) else value for key, value in message.items()}

    def _harmless(self, text: str) -> str:
        for token in self._special:
            text = text.replace(token, token[0] + BREAK + token[1:])
        return text

    def _token(self, role: str) -> str:
        index = getattr(self.tokenizer, role)
        return "" if index is None else self.tokenizer.tokens([index])[0]


class GenerationTag(Extension):
    """{% generation %} ... {% endgeneration %}: marks for training what the model says; here it only writes it."""

    tags = {"generation"}  # noqa: RUF012 (as jinja declares it)

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _as_json(value: object, indent: int | None = None) -> str:
    """As other libraries write it into a prompt: characters as they are, keys in their order."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
