"""Search settings of the command line on top of those of a bundle."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from clearhead.cli.options import setting
from clearhead.cli.sampling import told
from clearhead.core.errors import UsageError
from clearhead.generate import SearchConfig

NAMED = ("beams", "n_best", "length_penalty", "max_tokens")  # settings with an option of their own
OPTIONS = {name: f"--{name.replace('_', '-')}" for name in NAMED}


def adjusted(
    search: SearchConfig,
    *,
    beams: int | None,
    n_best: int = 1,
    length_penalty: float | None = None,
    max_tokens: int | None = None,
    more: Sequence[str] | None = None,
) -> SearchConfig:
    """The bundle's settings with what the user gave; enough beams for n_best if no number was given.

    Args:
        more: settings without an option of their own, each as NAME=VALUE.
    """
    others: dict[str, Any] = dict(setting(each, where="--search") for each in more or [])
    for name in others:
        if name in NAMED:
            raise UsageError("this has an option of its own", where=f"--search {name}", remedy=f"use {OPTIONS[name]}")
    given: dict[str, Any] = {"beams": beams or max(search.beams, n_best), "n_best": n_best}
    given |= {} if length_penalty is None else {"length_penalty": length_penalty}
    given |= {} if max_tokens is None else {"max_tokens": max_tokens}
    try:
        return SearchConfig.model_validate(search.model_dump() | given | others)
    except ValidationError as error:
        raise told(error, OPTIONS, SearchConfig.model_fields, option="--search") from None
