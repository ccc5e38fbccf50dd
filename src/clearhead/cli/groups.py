"""Groups of options that several commands have: a dataclass with an option in each field."""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from inspect import Parameter
from typing import Any


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of a dataclass type are replaced by the options in the fields of that class."""
    own = inspect.signature(command).parameters
    groups: dict[str, Any] = {name: each.annotation for name, each in own.items() if is_dataclass(each.annotation)}

    @functools.wraps(command)
    def called(**options: Any) -> None:
        for name, kind in groups.items():
            options[name] = kind(**{each.name: options.pop(each.name) for each in fields(kind)})
        command(**options)

    shown = [option for each in own.values() for option in _options(each)]
    called.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in shown}
    return called


def _options(parameter: Parameter) -> Iterator[Parameter]:
    """What stands for a parameter on the command line."""
    group = is_dataclass(parameter.annotation)
    found = inspect.signature(parameter.annotation).parameters.values() if group else [parameter]
    yield from (each.replace(kind=Parameter.KEYWORD_ONLY) for each in found)
