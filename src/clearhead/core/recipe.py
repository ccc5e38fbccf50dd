"""Recipes: commented YAML that fills one typed tree, dotted overrides, errors with file and line."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from clearhead.core.errors import ConfigError
from clearhead.core.files import read_text
from clearhead.core.registry import QUOTE, OptionError, nearest, refuse_misread

_UNREADABLE = (yaml.YAMLError, ValueError, RecursionError)  # a ValueError: the 31st of February, the number 0x_


class Section(BaseModel):
    """A frozen part of a recipe that refuses unknown keys, truth values as numbers, and nan."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields.get(info.field_name or "")
        refuse_misread(value, field.annotation if field else Any)
        return value


Tree = TypeVar("Tree", bound=BaseModel)


def read_recipe(path: Path, overrides: Iterable[str], schema: type[Tree]) -> Tree:
    """Read a YAML recipe, apply `dotted.key=value` overrides, and check everything against the schema.

    Raises:
        ConfigError: with file, line, key and the nearest valid name.
    """
    if path.is_dir():
        inside = path / "recipe.yaml"
        remedy = f"did you mean {inside}?" if inside.is_file() else "name the YAML file"
        raise ConfigError("a folder is no recipe", where=path, remedy=remedy)
    text = read_text(path, ConfigError)
    values = _parse(text, path)
    settings = list(overrides)
    for setting in settings:
        _override(values, setting, schema)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise _explained(error, text, path, settings, schema) from None


def write_recipe(tree: BaseModel) -> str:
    """The resolved recipe as YAML text; reading it again gives the same tree."""
    return yaml.safe_dump(tree.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        _refuse_repeats(yaml.compose(text, yaml.SafeLoader), path, set())
        values = yaml.safe_load(text)
    except ConfigError:
        raise
    except _UNREADABLE as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"not YAML: {getattr(error, 'problem', error)}", where=f"{path}{line}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError("a recipe is a mapping of sections", where=path, found=f"a {type(values).__name__}")
    return values


def _refuse_repeats(node: yaml.Node | None, path: Path, visited: set[int]) -> None:
    """YAML forbids a key that stands twice in a mapping; the library would quietly take the last one."""
    if id(node) in visited:  # an alias
        return
    visited.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _refuse_repeats(each, path, visited)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and seen.setdefault(key.value, line) != line:
                first = f"line {seen[key.value]}"
                raise ConfigError(f"the key {key.value!r} stands twice", where=f"{path}, line {line}", found=first)
            _refuse_repeats(value, path, visited)


def _override(values: dict[str, Any], setting: str, schema: type[BaseModel]) -> None:
    name, equals, value = setting.partition("=")
    keys = name.split(".")
    if not equals or not all(keys):
        raise ConfigError("an override is written key=value", found=repr(setting), expected="e.g. train.updates=200")
    for depth, key in enumerate(keys[:-1], start=1):
        field = _field(schema, keys[:depth])
        inner = values.get(key, _default(field))
        if isinstance(inner, str) and (field is None or field.annotation is not str):
            inner = {"kind": inner}  # `position: rope` given an option becomes a mapping with that kind
        if not isinstance(inner, Mapping | None):
            raise ConfigError(f"{'.'.join(keys[:depth])} has no keys", where=f"override {name}", found=repr(inner))
        values[key] = dict(inner or {})
        values = values[key]
    try:
        values[keys[-1]] = yaml.safe_load(value)
    except _UNREADABLE:
        raise ConfigError("the value of an override is not YAML", where=f"override {name}", found=repr(value)) from None


def _field(schema: type[BaseModel], keys: list[str]) -> FieldInfo | None:
    for key in keys[:-1]:
        inner = _section(schema, key)
        if inner is None:
            return None
        schema = inner
    return schema.model_fields.get(keys[-1])


def _default(field: FieldInfo | None) -> object:
    """What a key stands for when the recipe leaves it out: an override of a part of it changes no other part."""
    default = field.default if field else None
    return default.model_dump(mode="json", exclude_unset=True) if isinstance(default, BaseModel) else None


def _explained(
    error: ValidationError, text: str, path: Path, overrides: list[str], schema: type[BaseModel]
) -> ConfigError:
    problem = error.errors()[0]
    location = [str(each) for each in problem["loc"]]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, OptionError):
        location.extend(cause.option.split("."))  # a check of the whole recipe names a dotted key
    where = _where(location, text, path, overrides)
    if isinstance(cause, ConfigError):
        return ConfigError(cause.what, where=where, found=cause.found, expected=cause.expected, remedy=cause.remedy)
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
    found = repr(problem["input"])
    if problem["type"] == "model_type":
        return ConfigError("a section is a mapping of keys", where=where, found=found)
    message = problem["msg"][0].lower() + problem["msg"][1:]
    remedy = QUOTE if isinstance(problem["input"], bool) else None
    return ConfigError(message, where=where, found=found, remedy=remedy)


def _where(location: list[str], text: str, path: Path, overrides: list[str]) -> str:
    """The override that a wrong value came from, or else file, line and key."""
    names = [each.partition("=")[0] for each in overrides]
    for name in names:
        if location[: name.count(".") + 1] == name.split("."):
            return f"override {name}"
    key, (line, complete) = ".".join(location), _line_of(text, location)
    for name in names:
        if name == f"{key}.kind" or (name.startswith(f"{key}.") and not complete):
            return f"override {name}"
    return f"{path}, line {line}, {key}" if line else f"{path}, {key}" if key else str(path)


def _keys_at(schema: type[BaseModel], location: list[str]) -> list[str]:
    for key in location:
        inner = _section(schema, key)
        if inner is None:
            return []
        schema = inner
    return list(schema.model_fields)


def _section(schema: type[BaseModel], key: str) -> type[BaseModel] | None:
    field = schema.model_fields.get(key)
    annotation = field.annotation if field else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _line_of(text: str, location: list[str]) -> tuple[int | None, bool]:
    """The line, counted from 1, of a key or of the innermost section around it; whether the key itself is there."""
    node, line = yaml.compose(text), None
    for key in location:
        if not isinstance(node, yaml.MappingNode):
            return line, False
        entries = {each.value: (each, value) for each, value in node.value}
        if key not in entries:
            return line, False
        name, node = entries[key]
        line = name.start_mark.line + 1
    return line, True
