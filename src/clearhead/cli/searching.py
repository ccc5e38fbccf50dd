"""Search settings of the command line on top of those of a bundle."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from clearhead.cli.options import setting
from clearhead.cli.sampling import told
from clearhead.core.errors import UsageError
from clearhead.generate import SearchConfig


def adjusted(search: SearchConfig, named: Mapping[str, Any], more: Sequence[str] | None) -> SearchConfig:
    """The bundle's settings with what the user gave; enough beams for n_best if no number was given.

    Args:
        named: settings that have an option of their own in this command; None = not given.
        more: others, each as NAME=VALUE.
    """
    options = {name: f"--{name.replace('_', '-')}" for name in named}
    others: dict[str, Any] = dict(setting(each, where="--search", example="method=minimum_risk") for each in more or [])
    for name in others:
        if name in named:
            raise UsageError("this has an option of its own", where=f"--search {name}", remedy=f"use {options[name]}")
    given = {name: value for name, value in named.items() if value is not None}
    given.setdefault("beams", max(search.beams, given.get("n_best", 1)))
    try:
        return SearchConfig.model_validate(search.model_dump() | {"n_best": 1} | given | others)
    except ValidationError as error:
        raise told(error, options, SearchConfig.model_fields, option="--search") from None
