"""Regular English inflection. Irregular forms are data: `lexicon/irregular_verbs.tsv` and the columns of the nouns.

Each function takes the base form and spells one inflected form by the rules of school grammar.
"""

import re

_CONSONANT_Y = re.compile(r"[^aeiou]y$")
_SIBILANT = re.compile(r"(s|x|z|ch|sh)$")
_ONE_SHORT_SYLLABLE = re.compile(r"^[^aeiou]*(?:qu)?[aeiou][^aeiouwxy]$")  # stop, plan, hug; not wait, play, fix
_DOUBLING = frozenset(
    {"admit", "begin", "forget", "prefer", "regret", "refer", "permit"}
)  # stress on the last syllable
_O_TAKES_ES = frozenset({"go", "do", "tomato", "potato", "hero", "echo", "mosquito", "mango", "volcano"})
_SILENT_H = re.compile(r"(hour|honest|honou?r|heir)")
_VOWEL_LETTER_CONSONANT_SOUND = re.compile(r"(uni(?!n)|use|usu|uku|euro|one\b|once)")


def plural(noun: str) -> str:
    """`box` -> `boxes`; of several words the last one changes: `bus stop` -> `bus stops`."""
    return _add_s(noun)


def third_person(verb: str) -> str:
    """`wash` -> `washes`, `have` -> `has`."""
    return {"have": "has", "be": "is"}.get(verb) or _add_s(verb)


def past(verb: str) -> str:
    """`stop` -> `stopped`; also the regular participle."""
    if verb.endswith("e"):
        return verb + "d"
    if _CONSONANT_Y.search(verb):
        return verb[:-1] + "ied"
    return _doubled(verb) + "ed"


def gerund(verb: str) -> str:
    """`lie` -> `lying`, `make` -> `making`, `stop` -> `stopping`."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        return verb[:-1] + "ing"
    return _doubled(verb) + "ing"


def comparative(adjective: str) -> str:
    """The form in -er: `big` -> `bigger`."""
    return _graded(adjective, "er")


def superlative(adjective: str) -> str:
    """The form in -est: `happy` -> `happiest`."""
    return _graded(adjective, "est")


def possessive(noun: str) -> str:
    """`the teacher` -> `the teacher's`, `the students` -> `the students'`."""
    return noun + ("'" if noun.endswith("s") else "'s")


def article(following: str) -> str:
    """`a` or `an`, by the sound with which the following text begins."""
    word = following.lower()
    if _SILENT_H.match(word):
        return "an"
    if _VOWEL_LETTER_CONSONANT_SOUND.match(word):
        return "a"
    return "an" if word[:1] in set("aeiou") else "a"


def _add_s(word: str) -> str:
    if _CONSONANT_Y.search(word):
        return word[:-1] + "ies"
    if _SIBILANT.search(word) or word.rpartition(" ")[2] in _O_TAKES_ES:
        return word + "es"
    return word + "s"


def _graded(adjective: str, ending: str) -> str:
    if adjective.endswith("e"):
        return adjective + ending[1:]
    if _CONSONANT_Y.search(adjective):
        return adjective[:-1] + "i" + ending
    return _doubled(adjective) + ending


def _doubled(word: str) -> str:
    """The word with its last consonant written twice where spelling asks for it."""
    return word + word[-1] if _ONE_SHORT_SYLLABLE.match(word) or word in _DOUBLING else word
