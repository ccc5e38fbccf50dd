"""Recipes: commented YAML that fills one typed tree, dotted overrides, errors with file and line."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from clearhead.core.errors import ConfigError
from clearhead.core.files import read_text
from clearhead.core.registry import nearest


class Section(BaseModel):
    """A frozen part of a recipe that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


Tree = TypeVar("Tree", bound=BaseModel)


def read_recipe(path: Path, overrides: Iterable[str], schema: type[Tree]) -> Tree:
    """Read a YAML recipe, apply `dotted.key=value` overrides, and check everything against the schema.

    Raises:
        ConfigError: with file, line, key and the nearest valid name.
    """
    text = read_text(path, ConfigError)
    values = _parse(text, path)
    settings = list(overrides)
    for setting in settings:
        _override(values, setting)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise _explained(error, text, path, settings, schema) from None


def write_recipe(tree: BaseModel) -> str:
    """The resolved recipe as YAML text; reading it again gives the same tree."""
    return yaml.safe_dump(tree.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"not YAML: {getattr(error, 'problem', error)}", where=f"{path}{line}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError("a recipe is a mapping of sections", where=path, found=type(values).__name__)
    return values


def _override(values: dict[str, Any], setting: str) -> None:
    name, equals, value = setting.partition("=")
    keys = name.split(".")
    if not equals or not all(keys):
        raise ConfigError("an override is written key=value", found=repr(setting), expected="e.g. train.updates=200")
    for key in keys[:-1]:
        inner = values.get(key)
        if isinstance(inner, str):  # `position: rope` given an option becomes a mapping with that kind
            inner = {"kind": inner}
        values[key] = dict(inner) if isinstance(inner, Mapping) else {}
        values = values[key]
    try:
        values[keys[-1]] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError("the value of an override is not YAML", where=name, found=repr(value)) from None


def _explained(
    error: ValidationError, text: str, path: Path, overrides: list[str], schema: type[BaseModel]
) -> ConfigError:
    problem = error.errors()[0]
    location = [str(each) for each in problem["loc"]]
    key = ".".join(location)
    line = _line_of(text, location)
    where = f"{path}, line {line}, {key}" if line else f"{path}, {key}" if key else str(path)
    if any(each.partition("=")[0] == key for each in overrides):
        where = f"override {key}"
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return ConfigError(
            cause.what, where=where, found=cause.found, expected=cause.expected, remedy=cause.remedy
        )
    if problem["type"] == "extra_forbidden":
        names = _keys_at(schema, location[:-1])
        return ConfigError(
            f"unknown key {location[-1]!r}",
            where=where,
            expected=f"one of {', '.join(names)}",
            remedy=nearest(location[-1], names),
        )
    if problem["type"] == "missing":
        return ConfigError("this key is needed", where=where)
    return ConfigError(problem["msg"][0].lower() + problem["msg"][1:], where=where, found=repr(problem["input"]))


def _keys_at(schema: type[BaseModel], location: list[str]) -> list[str]:
    for key in location:
        field = schema.model_fields.get(key)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        schema = annotation
    return list(schema.model_fields)


def _line_of(text: str, location: list[str]) -> int | None:
    """The line of a key in the YAML text, counted from 1; None if it stands nowhere (an override, a default)."""
    node, line = yaml.compose(text), None
    for key in location:
        if not isinstance(node, yaml.MappingNode):
            break
        entries = {each.value: (each, value) for each, value in node.value}
        if key not in entries:
            break
        name, node = entries[key]
        line = name.start_mark.line + 1
    return line
