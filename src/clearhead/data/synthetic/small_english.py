"""About 200 English words and a grammar of them: five topics, numbers that agree, words with affixes.

Structure and words are apart: `STRUCTURE` leads from `S` to word classes such as `noun.s`, `class_words` gives the
words of a class in a topic. All nouns and verbs are regular, so a form is a stem and an affix: horse + s, milk + ed,
un + kind, slow + ly, re + paint + s. (`a` never becomes `an`.)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from clearhead.data.synthetic.automaton import Rules

TOPICS: Mapping[str, Mapping[str, str]] = {
    "farm": {
        "nouns": "horse cow goat hen farmer field barn",
        "transitive": "milk pull herd",
        "intransitive": "rest jump",
        "adjectives": "brown muddy young",
    },
    "sea": {
        "nouns": "sailor ship whale island crab captain wave",
        "transitive": "anchor follow board",
        "intransitive": "sail drift",
        "adjectives": "salty deep stormy",
    },
    "kitchen": {
        "nouns": "cook pot cake guest spoon waiter soup",
        "transitive": "boil peel roast",
        "intransitive": "steam simmer",
        "adjectives": "sweet hot fresh",
    },
    "music": {
        "nouns": "singer drum song band flute dancer concert",
        "transitive": "play record applaud",
        "intransitive": "perform tour",
        "adjectives": "loud famous gentle",
    },
    "school": {
        "nouns": "teacher pupil book lesson desk exam essay",
        "transitive": "explain answer learn",
        "intransitive": "whisper listen",
        "adjectives": "clever strict bright",
    },
}
SHARED: Mapping[str, str] = {  # in every topic
    "nouns": "friend neighbour child garden",
    "transitive": "help paint repaint",
    "intransitive": "work wait",
    "adjectives": "kind unkind happy unhappy slow quick",
}
IRREGULAR: Mapping[str, str] = {"child": "children"}
TOPICAL: Mapping[str, float] = {"nouns": 0.8, "transitive": 0.75, "intransitive": 0.7, "adjectives": 0.6}
FUNCTION_WORDS: Mapping[str, Mapping[str, float]] = {
    "determiner.s": {"the": 5, "a": 3, "this": 1, "every": 1},
    "determiner.p": {"the": 5, "some": 3, "these": 1, "many": 1},
    "preposition": {"near": 3, "behind": 2, "with": 2},
    "that": {"that": 1},
    "adverb": {"slowly": 2, "quickly": 2, "kindly": 1, "often": 1},
    ".": {".": 1},
}
PRESENT = 3.0, 2.0  # weights of present and past


def _structure() -> Iterator[tuple[str, list[tuple[float, tuple[str, ...]]]]]:
    """Symbols with their bodies; what follows the dot is the number, s or p."""
    yield "S", [(1, (f"subject.{n}", f"predicate.{n}", ".")) for n in "sp"]
    yield "phrase", [(1, (f"phrase.{n}",)) for n in "sp"]
    yield "place", [(1, ("preposition", "phrase"))]
    yield "object", [(3, ("phrase",)), (1, ("phrase", "place"))]
    for n in "sp":
        yield (
            f"subject.{n}",
            [(6, (f"phrase.{n}",)), (2, (f"phrase.{n}", "place")), (2, (f"phrase.{n}", f"clause.{n}"))],
        )
        yield f"phrase.{n}", [(1, (f"determiner.{n}", f"named.{n}"))]
        yield f"named.{n}", [(2, (f"noun.{n}",)), (1, ("adjective", f"noun.{n}"))]
        yield (
            f"clause.{n}",
            [
                (2, ("that", f"transitive.{n}", "phrase")),
                (1, ("that", f"intransitive.{n}")),
                *((0.5, ("that", f"phrase.{other}", f"transitive.{other}")) for other in "sp"),
            ],
        )
        yield (
            f"predicate.{n}",
            [
                (2, (f"intransitive.{n}",)),
                (1, (f"intransitive.{n}", "adverb")),
                (4, (f"transitive.{n}", "object")),
            ],
        )


STRUCTURE: Rules = dict(_structure())


def _forms(part: str, stem: str) -> dict[str, dict[str, float]]:
    """Class → forms of a stem with their weights."""
    plural = IRREGULAR.get(stem, f"{stem}s")
    if part == "adjectives":
        return {"adjective": {stem: 1}}
    if part == "nouns":
        return {"noun.s": {stem: 1}, "noun.p": {plural: 1}}
    present, past = PRESENT
    return {f"{part}.s": {f"{stem}s": present, f"{stem}ed": past}, f"{part}.p": {stem: present, f"{stem}ed": past}}


@cache
def class_words(topic: str) -> Mapping[str, Mapping[str, float]]:
    """Word class → its words in a topic with their weights; within a list the first stem is the most frequent."""
    found: dict[str, dict[str, float]] = {name: dict(words) for name, words in FUNCTION_WORDS.items()}
    for part, topical in TOPICAL.items():
        for stems, share in ((TOPICS[topic][part].split(), topical), (SHARED[part].split(), 1 - topical)):
            weights = [1 / (2 + rank) for rank in range(len(stems))]
            for stem, weight in zip(stems, weights, strict=True):
                for name, forms in _forms(part, stem).items():
                    own = found.setdefault(name, {})
                    total = sum(weights) * sum(forms.values())
                    own.update({form: share * weight * each / total for form, each in forms.items()})
    return found


@cache
def words() -> tuple[str, ...]:
    """All words, each once: those without topic first."""
    every = (word for topic in TOPICS for own in class_words(topic).values() for word in own)
    return tuple(sorted(dict.fromkeys(every), key=lambda word: topic_of(word) or ""))


@cache
def topic_of(word: str) -> str | None:
    """The topic that a word gives away; None for a word of all topics."""
    having = [topic for topic in TOPICS if any(word in own for own in class_words(topic).values())]
    return having[0] if len(having) == 1 else None


@cache
def rules() -> Rules:
    """The whole grammar: `S` chooses a topic, `symbol@topic` are the symbols of one topic."""
    whole: dict[str, list[tuple[float, tuple[str, ...]]]] = {"S": [(1, (f"S@{topic}",)) for topic in TOPICS]}
    for topic in TOPICS:
        for symbol, bodies in STRUCTURE.items():
            whole[f"{symbol}@{topic}"] = [(weight, tuple(f"{s}@{topic}" for s in body)) for weight, body in bodies]
        for name, own in class_words(topic).items():
            whole[f"{name}@{topic}"] = [(weight, (word,)) for word, weight in own.items()]
    return whole


@dataclass(frozen=True)
class Tree:
    """A derivation: a symbol of `STRUCTURE` with its parts, or a word class with its word."""

    symbol: str
    parts: "tuple[Tree, ...]" = ()
    word: str = ""

    def words(self) -> list[str]:
        """The sentence beneath."""
        return [self.word] if self.word else [word for part in self.parts for word in part.words()]


def parse(sentence: tuple[str, ...]) -> Tree | None:
    """The derivation of a sentence, which is the only one; None if there is none."""
    return next((tree for tree, end in _parses("S", sentence, 0) if end == len(sentence)), None)


def _parses(symbol: str, sentence: tuple[str, ...], at: int) -> Iterator[tuple[Tree, int]]:
    """Derivations of a symbol from place `at` on, with the place behind them."""
    if symbol in STRUCTURE:
        for _, body in STRUCTURE[symbol]:
            for parts, end in _sequences(body, sentence, at):
                yield Tree(symbol, parts), end
    elif at < len(sentence) and sentence[at] in _members(symbol):
        yield Tree(symbol, word=sentence[at]), at + 1


def _sequences(body: tuple[str, ...], sentence: tuple[str, ...], at: int) -> Iterator[tuple[tuple[Tree, ...], int]]:
    if not body:
        yield (), at
        return
    for tree, middle in _parses(body[0], sentence, at):
        for rest, end in _sequences(body[1:], sentence, middle):
            yield (tree, *rest), end


@cache
def _members(name: str) -> frozenset[str]:
    return frozenset(word for topic in TOPICS for word in class_words(topic)[name])
