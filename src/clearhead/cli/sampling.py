"""Options of commands that draw tokens, and the settings that they stand for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearhead.cli.options import setting
from clearhead.core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from clearhead.apply import Speculation
    from clearhead.generate import SamplingConfig
    from clearhead.generate.engine import EngineConfig

CacheKind = Annotated[
    str | None,
    typer.Option(help="Keys and values: dense, paged, windowed or int8; default: dense, for a conversation paged."),
]
NAMED = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")  # settings with an option of their own
OPTIONS = {name: f"--{name.replace('_', '-')}" for name in NAMED}


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How an answer is written."""

    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of an answer; default: the model's context.")
    ] = None
    stop: Annotated[list[str] | None, typer.Option(help="A string that ends the answer; may be given again.")] = None
    temperature: Annotated[float | None, typer.Option(min=0.0, help="0 = always the most probable token.")] = None
    top_k: Annotated[int | None, typer.Option(min=0, help="Draw from so many tokens; 0 = from all.")] = None
    top_p: Annotated[float | None, typer.Option(help="Draw from the tokens that make up this probability.")] = None
    min_p: Annotated[
        float | None, typer.Option(help="Draw from tokens with this share of the largest probability.")
    ] = None
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1: say less of what was said.")] = None
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same answers.")] = None
    more: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting of sampling, e.g. presence_penalty=0.5.", metavar="NAME=VALUE"),
    ] = None

    @property
    def stops(self) -> list[str]:
        """The strings that end an answer."""
        return self.stop or []

    def sampling(self) -> "SamplingConfig":
        """The settings that the user gave, by the names that SamplingConfig has for them."""
        from pydantic import ValidationError

        from clearhead.generate import SamplingConfig

        named = {name: getattr(self, name) for name in NAMED if getattr(self, name) is not None}
        more: dict[str, Any] = dict(setting(each) for each in self.more or [])
        for name in more:
            if name in named:
                raise UsageError("this is said twice", where=f"--set {name}", remedy=f"leave it or {OPTIONS[name]} out")
        try:
            return SamplingConfig.model_validate(more | named)
        except ValidationError as error:
            raise told(error, OPTIONS, SamplingConfig.model_fields) from None


@dataclass(frozen=True, kw_only=True)
class Guessing:
    """Whether to guess ahead, and how."""

    speculate: Annotated[
        str | None,
        typer.Option(help="Guess ahead: lookup = what followed before, draft = what --draft says.", metavar="HOW"),
    ] = None
    draft: Annotated[
        Path | None, typer.Option(help="Folder of a small model with the same vocabulary.", metavar="MODEL")
    ] = None
    guesses: Annotated[int | None, typer.Option(min=1, help="Tokens guessed at a time; default 4.")] = None

    def speculation(self, *, cache: str | None, device: str) -> "Speculation | None":
        """What the options stand for; a UsageError where they do not go together."""
        self._check(cache)
        if self.speculate is None:
            return None
        from pydantic import ValidationError

        from clearhead.apply import Speculation, load
        from clearhead.generate import SpeculationConfig

        given = {} if self.guesses is None else {"tokens": self.guesses}
        try:
            config = SpeculationConfig.model_validate({"drafter": self.speculate, **given})
        except ValidationError as error:
            raise told(error, {"drafter": "--speculate"}) from None
        draft = None if self.draft is None else load(self.draft, device=device).bundle
        return Speculation(config=config, draft=draft)

    def _check(self, cache: str | None) -> None:
        if self.speculate is None and (self.draft is not None or self.guesses is not None):
            option, how = ("--guesses", "lookup") if self.draft is None else ("--draft", "draft")
            raise UsageError("this has no use without guessing ahead", where=option, remedy=f"add --speculate {how}")
        if self.speculate == "draft" and self.draft is None:
            raise UsageError("there is no model to draft with", where="--speculate draft", remedy="add --draft MODEL")
        if self.speculate == "lookup" and self.draft is not None:
            remedy = "leave it out, or give --speculate draft"
            raise UsageError("lookup has no use of a draft model", where="--draft", remedy=remedy)
        if self.speculate is not None and cache is not None:
            remedy = "leave one of the two out"
            raise UsageError("guessing ahead has a cache of its own", where="--cache, --speculate", remedy=remedy)


def engine_of(cache: str) -> "EngineConfig":
    """An engine with this cache."""
    from pydantic import ValidationError

    from clearhead.generate.engine import EngineConfig

    try:
        return EngineConfig.model_validate({"cache": cache})
    except ValidationError as error:
        raise told(error, {"cache": "--cache"}) from None


def told(error: Any, options: Mapping[str, str], known: Iterable[str] = (), *, option: str = "--set") -> UsageError:
    """The first problem as one line; `options` are the names that settings have on the command line.

    Args:
        known: the names of all settings.
        option: by which settings are given that have no option of their own.
    """
    from clearhead.core.registry import nearest

    problem = error.errors()[0]
    name = ".".join(str(each) for each in problem["loc"])
    where = options.get(name, f"{option} {name}") if name else None
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return UsageError(cause.what, where=where, found=cause.found, expected=cause.expected, remedy=cause.remedy)
    if problem["type"] == "extra_forbidden":
        remedy = nearest(name, known) or f"one of {', '.join(sorted(known))}"
        return UsageError("no such setting", where=where, remedy=remedy)
    return UsageError(problem["msg"][0].lower() + problem["msg"][1:], where=where, found=problem["input"])
