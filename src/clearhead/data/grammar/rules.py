"""The rules: pairs of templates with shared slots, read from `rules/*.yaml`. Their language is told in README.md."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from clearhead.core.errors import DataError
from clearhead.data.grammar.words import AUXILIARIES, LIKE_HE, LIKE_THEY, Value, Wish

_FIELD = re.compile(r"\{(\w+)(?::([^\s{}]+))?(?: (\w+))?\}")
_NUMBERS = {"singular": LIKE_HE, "plural": LIKE_THEY, None: None}
_KEYS = {"name", "zh", "en", "number", "weight", "pairs"}  # the others are slots
HEAD = "N"  # the slot that gives a phrase its head


@dataclass(frozen=True)
class Field:
    """`{V:s S}`: the form `s` of the value in slot V, conjugated with the value in slot S."""

    slot: str
    form: str
    subject: str | None

    def chinese(self, values: Mapping[str, Value]) -> str:
        """What stands here in Chinese, once the slots are filled."""
        return values[self.slot].chinese(self.form)

    def english(self, values: Mapping[str, Value]) -> str:
        """What stands here in English; a verb that agrees with `I` or `they` keeps its plain form."""
        value = values[self.slot]
        if self.subject is not None and values[self.subject].agreement != LIKE_HE:
            return value.english("")
        return value.english(self.form)


Template = tuple[str | Field, ...]


@dataclass(frozen=True, eq=False)
class Slot:
    """What may fill one place of a rule."""

    name: str
    category: str
    wish: Wish
    optional: bool = False
    chosen_by: tuple[str, str] | None = None  # `for V.object`: the wish `object` of the word in slot V
    chooses: tuple[str, str] | None = None  # `by describes N`: its own wish `describes` must allow the word in slot N
    unlike: str | None = None  # `unlike S`: another head than in slot S


@dataclass(frozen=True, eq=False)
class Rule:
    """A pair of templates with the slots that they share."""

    name: str
    zh: Template
    en: Template
    slots: tuple[Slot, ...]
    agreement: int | None
    weight: int
    pairs: tuple[tuple[str, str], ...]

    @cached_property
    def family(self) -> str:
        """Rules `question/ma` and `question/anota` say the same in English; they share their held-out combinations."""
        return self.name.partition("/")[0]

    @cached_property
    def passes_through(self) -> bool:
        """Whether the rule is its head and nothing else."""
        return self.zh == self.en == (Field(HEAD, "", None),)


@dataclass(frozen=True)
class Rules:
    """The constructions (rules for sentences) and the rules for phrases by category."""

    constructions: tuple[Rule, ...]
    phrases: Mapping[str, tuple[Rule, ...]]

    @classmethod
    def load(cls, folder: Path | None = None) -> "Rules":
        """Read every YAML file of the folder in the order of the names."""
        folder = folder or Path(str(files(__package__))) / "rules"
        constructions: list[Rule] = []
        phrases: dict[str, tuple[Rule, ...]] = {}
        for path in sorted(folder.glob("*.yaml")):
            content = _parse(path)
            constructions += _rules(content.get("sentences"), path.name)
            for category, bodies in (content.get("phrases") or {}).items():
                phrases[category] = tuple(_rules(bodies, f"{path.name}: {category}"))
        _refuse_doubles(constructions)
        return cls(tuple(constructions), phrases)


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise DataError("not YAML", where=path.name, found=str(error)) from None
    if not isinstance(content, dict) or not content.keys() <= {"sentences", "phrases"}:
        raise DataError("not a file of rules", where=path.name, expected="the keys sentences and phrases")
    return content


def _refuse_doubles(rules: list[Rule]) -> None:
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise DataError("two constructions have one name", found=name)


def _rules(bodies: list[dict[str, Any]] | None, where: str) -> Iterator[Rule]:
    for position, body in enumerate(bodies or (), 1):
        yield _rule(body, f"{where}: {body.get('name', f'rule {position}')}")


def _rule(body: dict[str, Any], where: str) -> Rule:
    for key in ("zh", "en"):
        if not isinstance(body.get(key), str):
            raise DataError("a rule lacks a template", where=where, expected=key)
    slots = tuple(_slot(key, text, where) for key, text in body.items() if key not in _KEYS)
    rule = Rule(
        name=body.get("name", where),
        zh=_template(body["zh"], where),
        en=_template(body["en"], where),
        slots=slots,
        agreement=_number(body.get("number"), where),
        weight=int(body.get("weight", 1)),
        pairs=tuple(_pair(text, where) for text in str(body.get("pairs", "")).split())
        + (_predicate(slots) if "name" in body else ()),
    )
    _check_names(rule, where)
    return rule


def _number(text: str | None, where: str) -> int | None:
    if text not in _NUMBERS:
        raise DataError("unknown number", where=where, found=text, expected="singular or plural")
    return _NUMBERS[text]


def _predicate(slots: tuple[Slot, ...]) -> tuple[tuple[str, str], ...]:
    """A construction combines with its first verb or adjective untold, unless it names the few that it takes."""
    free = (slot for slot in slots if slot.category in ("verb", "adjective") and not _names_words(slot.wish))
    return tuple((slot.name, "") for slot in free if not slot.optional)[:1]


def _names_words(wish: Wish) -> bool:
    return any(not any(name.isascii() for name in names) for names in wish.some)


def _pair(text: str, where: str) -> tuple[str, str]:
    """`V+T`: these two words combine; `V`: this word and the construction do."""
    first, plus, second = text.partition("+")
    if not first or bool(plus) != bool(second):
        raise DataError("not a pair of slots", where=where, found=text, expected="such as V+T, or V alone")
    return first, second


def _template(text: str, where: str) -> Template:
    parts: list[str | Field] = []
    end = 0
    for match in _FIELD.finditer(text):
        parts += [text[end : match.start()], Field(match[1], match[2] or "", match[3])]
        end = match.end()
    parts.append(text[end:])
    if any(isinstance(part, str) and set(part) & set("{}") for part in parts):
        raise DataError("a template has a broken brace", where=where, found=text)
    return tuple(part for part in parts if part != "")


def _slot(key: str, text: str, where: str) -> Slot:
    """`V: verb eatable -raw for S.subject` and the like; see README.md."""
    words = str(text).split() or [""]
    options: dict[str, Any] = {}
    wish: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if word == "for":
            slot, _, feature = next(rest, "").partition(".")
            options["chosen_by"] = (slot, feature)
        elif word == "by":
            options["chooses"] = (next(rest, ""), next(rest, ""))
        elif word == "unlike":
            options["unlike"] = next(rest, "")
        else:
            wish.append(word)
    if not all(all(value) for value in options.values()):
        raise DataError("a slot is cut short", where=f"{where}, slot {key}", found=text)
    return Slot(key.rstrip("?"), words[0], Wish.read(" ".join(wish)), key.endswith("?"), **options)


def _check_names(rule: Rule, where: str) -> None:
    """Every slot that is mentioned exists, and a slot only refers to those above it."""
    above: list[str] = []
    for slot in rule.slots:
        asked = [slot.chosen_by and slot.chosen_by[0], slot.chooses and slot.chooses[1], slot.unlike]
        _refuse_unknown([name for name in asked if name], above, f"{where}, slot {slot.name}")
        above.append(slot.name)
    fields = [part for part in (*rule.zh, *rule.en) if isinstance(part, Field)]
    _refuse_unknown([name for field in fields for name in (field.slot, field.subject) if name], above, where)
    _refuse_unknown([name for pair in rule.pairs for name in pair if name], above, where)
    for field in fields:
        if field.form in AUXILIARIES and field.subject is not None:
            raise DataError("an auxiliary already agrees with its slot", where=where, found=field)


def _refuse_unknown(names: list[str], known: list[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise DataError("no such slot above", where=where, found=name, expected=", ".join(known) or "no slot")
