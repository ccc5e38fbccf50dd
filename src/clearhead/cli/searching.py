"""Search settings of the command line on top of those of a bundle."""

from typing import Any

from pydantic import ValidationError

from clearhead.core.errors import ConfigError, UsageError
from clearhead.generate import SearchConfig


def adjusted(
    search: SearchConfig,
    *,
    beams: int | None,
    n_best: int = 1,
    length_penalty: float | None = None,
    max_tokens: int | None = None,
) -> SearchConfig:
    """The bundle's settings with what the user gave; enough beams for n_best if no number was given."""
    given: dict[str, Any] = {"beams": beams or max(search.beams, n_best), "n_best": n_best}
    given |= {} if length_penalty is None else {"length_penalty": length_penalty}
    given |= {} if max_tokens is None else {"max_tokens": max_tokens}
    try:
        return SearchConfig.model_validate(search.model_dump() | given)
    except ValidationError as error:
        problem = error.errors()[0]
        cause = problem.get("ctx", {}).get("error")
        where = f"--{str(problem['loc'][0]).replace('_', '-')}" if problem["loc"] else None
        if isinstance(cause, ConfigError):
            raise UsageError(cause.what, where=where, found=cause.found, remedy=cause.remedy) from None
        raise UsageError(problem["msg"].lower(), where=where, found=problem["input"]) from None
