"""Rules between another library's config.json and our flat config. One rule says both directions.

A rule that cannot say a value raises a BundleError whose `what` is the reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from clearhead.bundle.exchange.flat import Flat
from clearhead.core.errors import BundleError

Theirs = Mapping[str, Any]  # their config.json
Keys = str | tuple[str, ...]
STORED = "stored tensors"  # a key put beside theirs: the names of the tensors in their files


class Rule(Protocol):
    """How one fact is said on both sides."""

    @property
    def ours(self) -> tuple[str, ...]:
        """The keys of the flat config that this rule accounts for."""

    def read(self, theirs: Theirs) -> Flat:
        """Their words to ours."""

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Our words to theirs."""


@dataclass(frozen=True)
class Field:
    """The same value under two names. Where a side has several names, they must agree.

    Args:
        theirs, name: their keys and ours.
        default: what they take where the key is absent; a function of their config if it depends on others, and
            then for null too.
        codes: their word -> our word, where the values differ.
    """

    theirs: Keys
    name: Keys
    default: Any
    codes: Mapping[Any, Any] | None = None

    @property
    def ours(self) -> tuple[str, ...]:
        return _many(self.name)

    def read(self, theirs: Theirs) -> Flat:
        values = [self._value(theirs, key) for key in _many(self.theirs)]
        if any(each != values[0] for each in values):
            keys = " and ".join(_many(self.theirs))
            raise BundleError(f"{keys} differ; Clearhead has one value for both", found=" and ".join(map(str, values)))
        return dict.fromkeys(self.ours, self._decoded(values[0]))

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        values = [ours[key] for key in self.ours]
        if any(each != values[0] for each in values):
            raise BundleError(f"{' and '.join(self.ours)} must be equal", found=" and ".join(map(str, values)))
        return dict.fromkeys(_many(self.theirs), self._encoded(values[0]))

    def _value(self, theirs: Theirs, key: str) -> Any:
        value = theirs.get(key, self.default)
        if callable(self.default) and (value is None or value is self.default):
            return self.default(theirs)
        return value

    def _decoded(self, value: Any) -> Any:
        if self.codes is None:
            return value
        if not isinstance(value, str | bool | int) or value not in self.codes:
            raise BundleError(f"{self.theirs} is not known", found=value, expected=_one_of(self.codes))
        return self.codes[value]

    def _encoded(self, value: Any) -> Any:
        if self.codes is None:
            return value
        found = [theirs for theirs, ours in self.codes.items() if ours == value]
        if not found:
            raise BundleError(f"{self.ours[0]} cannot be {value}", expected=_one_of(self.codes.values()))
        return found[0]


@dataclass(frozen=True)
class Fixed:
    """What every model of their architecture is, in our words."""

    key: str
    value: Any

    @property
    def ours(self) -> tuple[str, ...]:
        return (self.key,)

    def read(self, theirs: Theirs) -> Flat:
        return {self.key: self.value}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        if ours.get(self.key) != self.value:
            raise BundleError(f"{self.key} must be {self.value}", found=ours.get(self.key, "another kind"))
        return {}


def fixed(keys: Mapping[str, Any]) -> tuple[Rule, ...]:
    """One rule for each key and its value."""
    return tuple(Fixed(key, value) for key, value in keys.items())


@dataclass(frozen=True)
class Needs:
    """What their config must say for our words to hold; the value given is also what they take for an absent key."""

    values: Mapping[str, Any]
    ours: tuple[str, ...] = ()

    def read(self, theirs: Theirs) -> Flat:
        for key, value in self.values.items():
            if theirs.get(key, value) != value:
                raise BundleError(f"{key} has no counterpart in Clearhead", found=theirs[key], expected=value)
        return {}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self.values)


@dataclass(frozen=True)
class Rate:
    """A rate that matters in training only: the first of their keys is read, all are written."""

    theirs: tuple[str, ...]
    name: str
    default: float

    @property
    def ours(self) -> tuple[str, ...]:
        return (self.name,)

    def read(self, theirs: Theirs) -> Flat:
        return {self.name: theirs.get(self.theirs[0], self.default)}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        return dict.fromkeys(self.theirs, ours[self.name])


@dataclass(frozen=True)
class Free:
    """Keys that may have any value, because weights say the same or training alone asks; the values are for reading."""

    keys: Mapping[str, Any]

    @property
    def ours(self) -> tuple[str, ...]:
        return tuple(self.keys)

    def read(self, theirs: Theirs) -> Flat:
        return dict(self.keys)

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Custom:
    """A fact that takes two functions to translate."""

    ours: tuple[str, ...]
    reading: Callable[[Theirs], Flat]
    writing: Callable[[Mapping[str, Any]], dict[str, Any]]

    def read(self, theirs: Theirs) -> Flat:
        return self.reading(theirs)

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        return self.writing(ours)


def _many(keys: Keys) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else keys


def _one_of(values: Any) -> str:
    return f"one of {', '.join(map(str, values))}"
