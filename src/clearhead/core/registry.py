"""Families of parts: a name in a recipe, a class behind it, its options read from the class's signature."""

import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Generic, Literal, TypeVar, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from clearhead.core.errors import ConfigError

Part = TypeVar("Part")

QUOTE = "put it in quotes: YAML reads a bare yes, no, on or off as true or false"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """A remedy such as `did you mean 'rope'?`, or None where nothing is close."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else None


class OptionError(ConfigError):
    """A part cannot take an option, or needs one; `option` is its name, for the place in the recipe."""

    option = ""


class Choice(BaseModel):
    """One part of a family with its options; in a recipe `rope` or `{kind: rope, base: 500000}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: object) -> object:
        if isinstance(value, str):
            return {"kind": value}
        if isinstance(value, Choice):
            return value
        if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
            given = value.get("kind") if isinstance(value, dict) else value
            raise ConfigError(
                "not the name of a part" if given is not None else "the kind is missing",
                found=repr(value),
                expected="a name, or {kind: a name, an option: its value}",
                remedy=QUOTE if isinstance(given, bool) else None,
            )
        if "options" in value:
            return value
        return {"kind": value["kind"], "options": {key: v for key, v in value.items() if key != "kind"}}

    @model_serializer
    def _plain(self) -> str | dict[str, Any]:
        return {"kind": self.kind, **self.options} if self.options else self.kind


class Registry(Generic[Part]):
    """The parts of one family by name.

    A part is a class; its positional parameters are wiring (sizes that the model knows), its keyword-only
    parameters are the options that a recipe may set. `check` refuses what the signature does not know.
    """

    def __init__(self, family: str) -> None:
        self.family = family
        self._parts: dict[str, Callable[..., Part]] = {}

    def register(self, name: str) -> Callable[[type[Part]], type[Part]]:
        """Class decorator that gives a part its name in recipes."""

        def enter(part: type[Part]) -> type[Part]:
            if name in self._parts:
                raise ValueError(f"{self.family} {name!r} is registered twice")
            self._parts[name] = part
            return part

        return enter

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._parts)

    def name_of(self, part: Part) -> str:
        """The name of a part's class."""
        return next(name for name, each in self._parts.items() if each is type(part))

    def get(self, name: str) -> Callable[..., Part]:
        """The part of that name; a ConfigError with the nearest name if there is none."""
        if name not in self._parts:
            raise ConfigError(
                f"no {self.family} of kind {name!r}",
                expected=f"one of {', '.join(self.names())}",
                remedy=nearest(str(name), self.names()),
            )
        return self._parts[name]

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """The keyword-only parameters of a part: what a recipe may set."""
        parameters = inspect.signature(self.get(name)).parameters
        return {key: each for key, each in parameters.items() if each.kind is each.KEYWORD_ONLY}

    def check(self, choice: Choice) -> Choice:
        """Return the choice with its options converted to their annotated types, or raise a ConfigError."""
        known = self.options(choice.kind)
        part = self.get(choice.kind)
        hints = typing.get_type_hints(part.__init__ if inspect.isclass(part) else part, include_extras=True)
        checked = {}
        for key, value in choice.options.items():
            if key not in known:
                raise _about(
                    key,
                    f"{self.family} {choice.kind!r} has no option {key!r}",
                    expected=f"one of {', '.join(known)}" if known else "no options",
                    remedy=nearest(key, known),
                )
            checked[key] = _converted(value, hints.get(key, Any), choice.kind, key)
        for key, parameter in known.items():
            if parameter.default is parameter.empty and key not in checked:
                raise _about(key, f"{self.family} {choice.kind!r} needs the option {key!r}")
        return Choice(kind=choice.kind, options=checked)

    def build(self, choice: Choice, *wiring: Any) -> Part:
        """Construct the chosen part: `wiring` positionally, the options by keyword."""
        return self.get(choice.kind)(*wiring, **self.check(choice).options)


def refuse_misread(value: object, hint: Any) -> None:
    """Refuse what would convert quietly but is never meant: true or false as a number, a number that is none."""
    if isinstance(value, bool) and (kinds := _kinds(hint)) <= {int, float, str, type(None)}:
        wanted, remedy = ("text", QUOTE) if str in kinds else ("a number", None)
        raise ConfigError("input should not be true or false", found=value, expected=wanted, remedy=remedy)
    if isinstance(value, float) and math.isnan(value):
        raise ConfigError("input should be a number", found="nan")


def _kinds(hint: Any) -> set[Any]:
    """The types that a hint allows, with unions and literals taken apart."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _kinds(arguments[0])
    if origin in (Union, types.UnionType):
        return set[Any]().union(*map(_kinds, arguments))
    return {type(each) for each in arguments} if origin is Literal else {hint}


def _converted(value: object, hint: Any, kind: str, key: str) -> object:
    try:
        refuse_misread(value, hint)
        return TypeAdapter(hint).validate_python(value)
    except ConfigError as error:
        details = {"found": error.found, "expected": error.expected, "remedy": error.remedy}
        raise _about(key, f"option {kind}.{key}: {error.what}", **details) from None
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise _about(key, f"option {kind}.{key}: {message[0].lower()}{message[1:]}", found=repr(value)) from None


def _about(option: str, what: str, **details: Any) -> OptionError:
    error = OptionError(what, **details)
    error.option = option
    return error


def choice_of(registry: Registry[Any]) -> Any:
    """The pydantic field type of a choice from one family: `position: choice_of(POSITIONS)`."""
    return Annotated[Choice, AfterValidator(registry.check)]
