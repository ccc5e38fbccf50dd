"""An invented language into which the small English is translated word by word, in another order.

    the horse that the farmers milked pulls a cow .
    farmers milk ta that horse a cow pull             (with invented words)

Five rules: the verb stands last in its predicate or clause; adjectives follow their noun; prepositions become
postpositions; a clause or a place stands before what it describes; a past verb is its stem and the particle `ta`.
`the` and the full stop have no counterpart, and verbs do not agree, so three English forms share one word. The
translation of a sentence is therefore exact, and English cannot be read off it word by word.
"""

from collections.abc import Mapping, Sequence
from functools import cache

from clearhead.data.synthetic import small_english as english
from clearhead.data.synthetic.small_english import Tree

PAST = "ta"
SILENT = ("the", ".")
CONSONANTS, VOWELS = "bdgklmnprsv", "aeiou"
ORDER: Mapping[str, Sequence[int]] = {  # new order of the parts, where it is not the old one
    "named": (1, 0),  # adjective, noun
    "place": (1, 0),  # preposition, phrase
    "subject": (1, 0),  # phrase, place or clause
    "object": (1, 0),  # phrase, place
    "predicate": (1, 0),  # verb, object or adverb
}


def translate(tree: Tree) -> list[str]:
    """The words of the translation."""
    if tree.word:
        return _word(tree)
    return [word for part in _reordered(tree) for word in translate(part)]


def _reordered(tree: Tree) -> Sequence[Tree]:
    name = tree.symbol.split(".")[0]
    if name == "clause":
        return _clause(tree.parts)
    if name in ORDER and len(tree.parts) == 2:
        return [tree.parts[place] for place in ORDER[name]]
    return tree.parts


def _clause(parts: Sequence[Tree]) -> Sequence[Tree]:
    """The verb after all others, then `that`, which joins the clause to the noun behind it."""
    that, *rest = parts
    return [*sorted(rest, key=lambda part: "transitive" in part.symbol), that]


def _word(tree: Tree) -> list[str]:
    if tree.word in SILENT:
        return []
    if "transitive" not in tree.symbol:
        return [lexicon()[tree.word]]
    stem = _stems()[tree.word]
    return [lexicon()[stem], PAST] if tree.word == f"{stem}ed" else [lexicon()[stem]]


@cache
def _stems() -> Mapping[str, str]:
    """Form of a verb → its stem."""
    found = {}
    for parts in (*english.TOPICS.values(), english.SHARED):
        for stem in f"{parts['transitive']} {parts['intransitive']}".split():
            found.update({stem: stem, f"{stem}s": stem, f"{stem}ed": stem})
    return found


@cache
def lexicon() -> Mapping[str, str]:
    """English word → invented word: two or more syllables, never the same for two words; plurals end in n."""
    stems = [word for word in english.words() if word not in SILENT and _singular(word) == word]
    found = {word: _syllables(place) for place, word in enumerate(stems) if _stems().get(word, word) == word}
    plurals = [word for word in english.words() if _singular(word) != word]
    return {**found, **{word: found[_singular(word)] + "n" for word in plurals}}


@cache
def _singular(word: str) -> str:
    """The singular of a plural noun; any other word itself."""
    for parts in (*english.TOPICS.values(), english.SHARED):
        for stem in parts["nouns"].split():
            if word == english.IRREGULAR.get(stem, f"{stem}s"):
                return stem
    return word


def _syllables(number: int) -> str:
    """A word for each number from 0 to 3024."""
    syllables = [consonant + vowel for consonant in CONSONANTS for vowel in VOWELS]
    mixed = number * 1201 % len(syllables) ** 2  # neighbours get different first syllables
    return syllables[mixed // len(syllables)] + syllables[mixed % len(syllables)]


@cache
def invented_words() -> tuple[str, ...]:
    """All words of the language."""
    return (PAST, *lexicon().values())
