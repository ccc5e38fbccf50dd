"""What fills a slot: one word of the lexicon, or the phrase that a rule made of several.

Both have a Chinese and an English text in several *forms* (`""` is the plain one), a head word, and an agreement
that says whether English conjugates with it as with `I` (0), `they` (1) or `he` (2).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property

from clearhead.core.errors import DataError
from clearhead.data.grammar.morphology import possessive, third_person

LIKE_I, LIKE_THEY, LIKE_HE = 0, 1, 2  # agreements

AUXILIARIES: Mapping[str, tuple[str, str, str]] = {  # named by what `he` takes
    "is": ("am", "are", "is"),
    "isn't": ("am not", "aren't", "isn't"),
    "was": ("was", "were", "was"),
    "wasn't": ("wasn't", "weren't", "wasn't"),
    "does": ("do", "do", "does"),
    "doesn't": ("don't", "don't", "doesn't"),
    "has": ("have", "have", "has"),
    "hasn't": ("haven't", "haven't", "hasn't"),
}


@dataclass(frozen=True, eq=False)
class Wish:
    """A condition on the classes of a word: at least one of each set in `some`, and none of `none`."""

    some: tuple[frozenset[str], ...] = ()
    none: frozenset[str] = frozenset()

    @staticmethod
    @cache
    def read(text: str) -> "Wish":
        """`portable food|drink -cooked|meal`: portable, and a food or a drink, but not cooked and no meal."""
        parts = text.split()
        some = [frozenset(part.split("|")) for part in parts if not part.startswith("-")]
        none = [name for part in parts if part.startswith("-") for name in part[1:].split("|")]
        return Wish(tuple(some), frozenset(none))

    @cached_property
    def names(self) -> list[str]:
        """Every class that is mentioned, in alphabetical order."""
        return sorted(self.none.union(*self.some))

    def allows(self, classes: frozenset[str]) -> bool:
        """Whether a word of these classes meets the condition."""
        return self.none.isdisjoint(classes) and not any(each.isdisjoint(classes) for each in self.some)


@dataclass(frozen=True, eq=False)
class Word:
    """One entry of the lexicon, with every form spelled out when it is read."""

    kind: str
    zh: Mapping[str, str]
    en: Mapping[str, str]
    classes: frozenset[str]
    agreement: int = LIKE_HE
    wishes: Mapping[str, Wish] = field(default_factory=dict)  # what this word asks of others, by feature

    @property
    def head(self) -> "Word":
        """Itself; a phrase answers with its head."""
        return self

    def chinese(self, form: str) -> str:
        """The Chinese text in a form."""
        return _form(self, self.zh, form)

    def english(self, form: str) -> str:
        """The English text in a form, or the auxiliary of that name in agreement with this word."""
        return _agreeing(form, self.agreement) or _form(self, self.en, form)


@dataclass(frozen=True, eq=False)
class Phrase:
    """Several words put together by a rule; it inherits what its head can do."""

    zh: str
    en: str
    head: Word
    agreement: int

    def chinese(self, form: str) -> str:
        """The Chinese text, or a form of the head."""
        return self.zh if not form else self.head.chinese(form)

    def english(self, form: str) -> str:
        """The English text in a case, or an auxiliary in agreement, or a form of the head."""
        if form in ("", "him"):
            return self.en
        if form == "his":
            return possessive(self.en)
        return _agreeing(form, self.agreement) or self.head.english(form)


Value = Word | Phrase


def _agreeing(form: str, agreement: int) -> str:
    """An auxiliary, or any verb written `+live`, in the present; nothing for other forms."""
    if form.startswith("+"):
        return third_person(form[1:]) if agreement == LIKE_HE else form[1:]
    return AUXILIARIES[form][agreement] if form in AUXILIARIES else ""


def _form(word: Word, forms: Mapping[str, str], form: str) -> str:
    try:
        return forms[form]
    except KeyError:
        raise DataError(
            "a word has no such form", where=f"{word.kind} {word.zh['']} = {word.en['']}", found=form,
            expected=", ".join(filter(None, forms)) or "only the plain form",
        ) from None  # fmt: skip


def closure(names: Iterable[str], parents: Mapping[str, list[str]], seen: Callable[[str], None]) -> frozenset[str]:
    """These classes and all above them; `seen` is told each name, so that an unknown one can be refused."""
    found: list[str] = []
    queue = list(names)
    while queue:
        name = queue.pop()
        seen(name)
        if name not in found:
            found.append(name)
            queue.extend(parents.get(name, ()))
    return frozenset(found)
