"""The grammar and its sampler: from rules and lexicon to pairs of sentences with the derivation that made them."""

import random
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from clearhead.core.errors import DataError
from clearhead.data.grammar import morphology
from clearhead.data.grammar.check import check
from clearhead.data.grammar.choices import Choices, Wishes, asked
from clearhead.data.grammar.lexicon import Lexicon
from clearhead.data.grammar.rules import HEAD, Field, Rule, Rules, Slot, Template
from clearhead.data.grammar.words import Phrase, Value, Word

UNPUNCTUATED = 0.1  # the share of sentences without their final mark, in both languages
PAIRED = ("object", "describes")  # relations whose two words make a combination
_ATTEMPTS = 20  # to find a word unlike another
_RESTARTS = 1_000  # of a sentence that ran into a dead end
_ARTICLE = re.compile(r"\ba\(n\) (?=(\S+))")
_SPACE_BEFORE_MARK = re.compile(r" +(?=[,.?!])")
_NOTHING = Word("nothing", {"": ""}, {"": "", "him": ""}, frozenset())

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Example:
    """A Chinese sentence and its English translation.

    `combinations` are what the sentence composes, written `eat + apple`, `big + house`, `passive: eat`; the split is
    made along them (see `splits`). `words` are the lexical pairs in the order in which they were chosen.
    """

    zh: str
    en: str
    construction: str
    combinations: frozenset[str]
    words: tuple[tuple[str, str], ...]


@dataclass
class _Notes:
    """What a derivation has used so far."""

    combinations: list[str] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)


class _DeadEndError(Exception):
    """No word fits here; the sentence is given up and another one tried."""


class Grammar:
    """Samples sentence pairs. Build it with `load`."""

    def __init__(self, rules: Rules, lexicon: Lexicon) -> None:
        self.rules, self.lexicon = rules, lexicon
        self._by_name = {rule.name: rule for rule in rules.constructions}
        self._choices = Choices(rules, lexicon)
        check(rules, lexicon)

    @classmethod
    def load(cls) -> "Grammar":
        """The grammar that comes with the package, read once.

        Raises:
            DataError: a rule or a word is broken; the message names the file and the line or rule.
        """
        return _embedded()

    @property
    def constructions(self) -> tuple[str, ...]:
        """The names of the rules for sentences."""
        return tuple(self._by_name)

    def construction(self, rng: random.Random) -> str:
        """The name of a construction, chosen uniformly."""
        return _choose(self.rules.constructions, rng).name

    def sample(self, rng: random.Random, construction: str | None = None) -> Example:
        """One sentence pair; of the given construction, or of one chosen uniformly.

        Only `rng.random()` is called, whose sequence Python guarantees for a seed.
        """
        name = construction or self.construction(rng)
        if name not in self._by_name:
            raise DataError("no such construction", found=name, expected=", ".join(self._by_name))
        for _ in range(_RESTARTS):
            with suppress(_DeadEndError):
                return self._sentence(self._by_name[name], rng)
        raise DataError("a construction finds no words", where=name, remedy="widen the conditions of its slots")

    def _sentence(self, rule: Rule, rng: random.Random) -> Example:
        notes = _Notes()
        values = self._fill(rule, (), rng, notes)
        zh, en = _realise_chinese(rule.zh, values), polish(_realise_english(rule.en, values))
        if rng.random() < UNPUNCTUATED:
            zh, en = zh[:-1], en[:-1]
        words = tuple((word.zh[""], word.en[""]) for word in notes.words)
        return Example(zh, en, rule.name, frozenset(notes.combinations), words)

    def _fill(self, rule: Rule, wishes: Wishes, rng: random.Random, notes: _Notes) -> dict[str, Value]:
        """Choose for every slot from the first to the last; `wishes` are for the head of the phrase."""
        values: dict[str, Value] = {}
        for slot in rule.slots:
            if slot.optional and rng.random() < 0.5:
                values[slot.name] = _NOTHING
                continue
            values[slot.name] = self._value(slot, asked(slot, wishes), values, rng, notes)
            _note(rule, slot, values, notes)
        notes.combinations += _declared(rule, values)
        return values

    def _value(
        self, slot: Slot, wishes: Wishes, values: Mapping[str, Value], rng: random.Random, notes: _Notes
    ) -> Value:
        if slot.chosen_by is not None:
            name, feature = slot.chosen_by
            wishes = (*wishes, values[name].head.wishes[feature])
        fitting = self._fitting_slot(slot, wishes, values)
        if not fitting:
            raise _DeadEndError
        for _ in range(_ATTEMPTS):
            mark = len(notes.words), len(notes.combinations)
            choice = self._rarer(_choose(fitting, rng), _choose(fitting, rng))
            value = self._phrase(choice, wishes, rng, notes) if isinstance(choice, Rule) else choice
            if not _repeats(value.head, slot, values):
                if choice is value:
                    notes.words.append(value.head)
                return value
            del notes.words[mark[0] :], notes.combinations[mark[1] :]
        raise _DeadEndError

    def _rarer(self, one: Word | Rule, other: Word | Rule) -> Word | Rule:
        """The first choice, unless it is a word that can stand in twice as many places as the other."""
        places = self._choices.places
        if isinstance(one, Word) and isinstance(other, Word) and 2 * places[other] < places[one]:
            return other
        return one

    def _fitting_slot(self, slot: Slot, wishes: Wishes, values: Mapping[str, Value]) -> Sequence[Word | Rule]:
        if slot.chooses is None:
            return self._choices.fitting(slot.category, wishes)
        feature, name = slot.chooses
        return self._choices.choosers(slot.category, feature, values[name].head, wishes)

    def _phrase(self, rule: Rule, wishes: Wishes, rng: random.Random, notes: _Notes) -> Value:
        values = self._fill(rule, wishes, rng, notes)
        if rule.passes_through:
            return values[HEAD]
        head = values.get(HEAD, _NOTHING)
        agreement = head.agreement if rule.agreement is None else rule.agreement
        zh, en = _realise_chinese(rule.zh, values), _realise_english(rule.en, values)
        return Phrase(zh, en, head.head, agreement)


@cache
def _embedded() -> Grammar:
    return Grammar(Rules.load(), Lexicon.load())


def polish(text: str) -> str:
    """Spell the articles, close the gaps that empty slots leave, and begin with a capital letter."""
    text = " ".join(text.split())
    text = _ARTICLE.sub(lambda match: morphology.article(match[1]) + " ", text)
    text = _SPACE_BEFORE_MARK.sub("", text)
    return text[0].upper() + text[1:]


def _choose(options: Sequence[Choice], rng: random.Random) -> Choice:
    return options[int(rng.random() * len(options))]


def _repeats(head: Word, slot: Slot, values: Mapping[str, Value]) -> bool:
    """Whether a sentence would say the same again: a word that must be unlike another, `I see me`, `Tom sees Tom`."""
    if slot.unlike is not None and head is values[slot.unlike].head:
        return True
    if head.kind not in ("pronoun", "name"):
        return False
    return any(value.head is head or _same_speaker(value.head, head) for value in values.values())


def _same_speaker(one: Word, other: Word) -> bool:
    return any(person in one.classes and person in other.classes for person in ("first", "second"))


def _realise_chinese(template: Template, values: Mapping[str, Value]) -> str:
    return "".join([part.chinese(values) if isinstance(part, Field) else part for part in template])


def _realise_english(template: Template, values: Mapping[str, Value]) -> str:
    return "".join([part.english(values) if isinstance(part, Field) else part for part in template])


def _lemma(value: Value) -> str:
    return value.head.en[""]


def _note(rule: Rule, slot: Slot, values: Mapping[str, Value], notes: _Notes) -> None:
    """Write down the combinations that this slot makes with what was chosen before it."""
    word = _lemma(values[slot.name])
    if slot.chosen_by is not None and slot.chosen_by[1] in PAIRED:
        notes.combinations.append(f"{_lemma(values[slot.chosen_by[0]])} + {word}")
    if slot.chooses is not None and slot.chooses[0] in PAIRED:
        notes.combinations.append(f"{word} + {_lemma(values[slot.chooses[1]])}")


def _declared(rule: Rule, values: Mapping[str, Value]) -> list[str]:
    """The combinations that the rule lists under `pairs`, as far as their slots are filled."""
    found = [(values[first], values[second]) for first, second in rule.pairs if second]
    pairs = [f"{_lemma(a)} + {_lemma(b)}" for a, b in found if a is not _NOTHING and b is not _NOTHING]
    return pairs + [f"{rule.family}: {_lemma(values[slot])}" for slot, second in rule.pairs if not second]
