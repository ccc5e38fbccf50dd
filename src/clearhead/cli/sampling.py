"""Options of commands that draw tokens, and the settings that they stand for."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearhead.cli.options import setting
from clearhead.core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from clearhead.generate import SamplingConfig
    from clearhead.generate.engine import EngineConfig

MaxTokens = Annotated[int | None, typer.Option(min=1, help="Most tokens of an answer; default: the model's context.")]
Stop = Annotated[list[str] | None, typer.Option(help="A string that ends the answer; may be given again.")]
Temperature = Annotated[float | None, typer.Option(min=0.0, help="0 = always the most probable token.")]
TopK = Annotated[int | None, typer.Option(min=0, help="Draw from so many tokens; 0 = from all.")]
TopP = Annotated[float | None, typer.Option(help="Draw from the tokens that make up this probability.")]
MinP = Annotated[float | None, typer.Option(help="Draw from tokens with this share of the largest probability.")]
RepetitionPenalty = Annotated[float | None, typer.Option(help="Above 1: say less of what was said.")]
Seed = Annotated[int | None, typer.Option(min=0, help="The same seed gives the same answers.")]
More = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting of sampling, e.g. presence_penalty=0.5.", metavar="NAME=VALUE"),
]
CacheKind = Annotated[str, typer.Option(help="Keys and values: dense, paged, windowed or int8.")]


def sampling_of(more: list[str] | None, **given: float | None) -> "SamplingConfig":
    """The settings that the user gave, by the names that SamplingConfig has for them."""
    from pydantic import ValidationError

    from clearhead.generate import SamplingConfig

    settings: dict[str, Any] = dict(setting(each) for each in more or [])
    settings |= {name: value for name, value in given.items() if value is not None}
    try:
        return SamplingConfig.model_validate(settings)
    except ValidationError as error:
        raise told(error, options=list(given)) from None


def engine_of(cache: str) -> "EngineConfig":
    """An engine with this cache."""
    from pydantic import ValidationError

    from clearhead.generate.engine import EngineConfig

    try:
        return EngineConfig.model_validate({"cache": cache})
    except ValidationError as error:
        raise told(error, options=["cache"]) from None


def told(error: Any, *, options: list[str]) -> UsageError:
    """The first problem as one line; `options` have a name of their own on the command line."""
    problem = error.errors()[0]
    name = ".".join(str(each) for each in problem["loc"])
    option = f"--{name.replace('_', '-')}" if name in options else f"--set {name}"
    where = option if name else None
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return UsageError(cause.what, where=where, found=cause.found, expected=cause.expected, remedy=cause.remedy)
    if problem["type"] == "extra_forbidden":
        return UsageError("no such setting", where=where, remedy="see clearhead.generate.SamplingConfig for all names")
    return UsageError(problem["msg"].lower(), where=where, found=problem["input"])
