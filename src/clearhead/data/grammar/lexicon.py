"""The lexicon: one TSV file for each kind of word, read into `Word`s with all their forms.

The first line of a file names its columns; `zh`, `en` and `classes` are in every file. An empty cell means "by rule".
Chinese separable verbs are written with a stroke where they separate (`洗/澡`). How the other columns are used:

    noun       plural: irregular, `-` for a mass noun, `pair` for trousers; measure: the Chinese measure word
    verb       subject, object: the classes that it takes (object `-`: none); at: kinds of places where it happens
    adjective  more: `er`, two irregular forms, or empty for `more ...`; describes: classes of nouns
    place      at, to: English phrases, by rule `in X` and `to X`; in: Chinese with its postposition
    pronoun    him, his, himself: other English cases; agreement: I, they or he
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml

from clearhead.core.errors import DataError
from clearhead.data.grammar import morphology, numerals
from clearhead.data.grammar.words import HE, THEY, I, Wish, Word, closure

Row = Mapping[str, str]
Forms = dict[str, str]
_AGREEMENT = {"I": I, "they": THEY, "he": HE}
_PRONOUN = {"male": ("他", "he"), "female": ("她", "she")}


@dataclass(frozen=True)
class Lexicon:
    """All words, by kind, in the order of their files."""

    words: Mapping[str, tuple[Word, ...]]
    classes: frozenset[str]

    @classmethod
    def load(cls, folder: Path | None = None) -> "Lexicon":
        """Read every `*.tsv` of the folder; refuse unknown classes and double entries."""
        folder = folder or Path(str(files(__package__))) / "lexicon"
        return _Loader(folder).load()

    def entries(self) -> Iterator[Word]:
        """The words that were written down, without the numbers, which are computed."""
        for kind, words in self.words.items():
            yield from (() if kind == "number" else words)


def table(path: Path) -> Iterator[Row]:
    """The rows of a TSV file as dictionaries; comments start with `#`."""
    columns: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if not columns:
            columns = cells
            continue
        if len(cells) > len(columns):
            raise DataError("too many cells", where=f"{path.name} line {number}", found=len(cells),
                            expected=f"at most {len(columns)}: {' '.join(columns)}")  # fmt: skip
        yield dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=True))


class _Loader:
    """Reads the folder; holds what the readers of the kinds share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parents: dict[str, list[str]] = {
            name: (above or "").split() for name, above in yaml.safe_load(self._text("classes.yaml")).items()
        }
        self.irregular = {row["base"]: (row["past"], row["done"]) for row in table(folder / "irregular_verbs.tsv")}
        self.measures = {row["zh"]: row["en"] for row in table(folder / "measures.tsv")}
        self.place = ""  # of the row being read, for messages

    def load(self) -> Lexicon:
        words = {kind: tuple(self._words(kind)) for kind in READERS}
        words["number"] = tuple(_numbers(self.folder / "numbers.tsv"))
        numeric = frozenset(name for word in words["number"] for name in word.classes)
        return Lexicon(words, frozenset(self.parents) | numeric)

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def _words(self, kind: str) -> Iterator[Word]:
        seen: dict[tuple[str, str], str] = {}
        for row in table(self.folder / f"{kind}s.tsv"):
            self.place = f"{kind}s.tsv: {row['zh']}"
            key = (row["zh"], row.get("object", ""))
            if key in seen:
                raise DataError("a word is entered twice", where=self.place, found=f"{seen[key]} and {row['en']}")
            seen[key] = row["en"]
            yield READERS[kind](row, self)

    def classes(self, text: str) -> frozenset[str]:
        """The classes named in a cell, with all above them."""
        return closure(text.split(), self.parents, self.known)

    def known(self, name: str) -> None:
        if name not in self.parents:
            raise DataError("unknown class", where=self.place, found=name, remedy="add it to classes.yaml")

    def wish(self, text: str) -> Wish:
        wish = Wish.read(text)
        for name in sorted(wish.some | wish.none):
            self.known(name)
        return wish

    def verb_forms(self, base: str) -> Forms:
        """The five English forms; of a verb of several words the first one changes."""
        first, space, rest = base.partition(" ")
        past = morphology.past(first)
        simple_past, done = self.irregular.get(first, (past, past))
        forms = {"": first, "s": morphology.third_person(first), "past": simple_past, "done": done,
                 "ing": morphology.gerund(first)}  # fmt: skip
        if first == "have":
            forms["s"] = "has"
        return {name: form + space + rest for name, form in forms.items()}


def _noun(row: Row, loader: _Loader) -> Word:
    single, plural, measure = row["en"], row["plural"], row["measure"]
    classes = loader.classes(row["classes"])
    if measure not in loader.measures and measure != "-":
        raise DataError("unknown measure word", where=loader.place, found=measure, remedy="add it to measures.tsv")
    english: Forms = {"": single, "one": single, "many": plural or morphology.plural(single)}
    english["bare"] = english["many"]
    if plural == "-":
        vessel = loader.measures.get(measure, "")
        english |= {"bare": single, "one": f"{vessel} of {single}", "many": f"{morphology.plural(vessel)} of {single}"}
        classes |= {"mass"} if vessel else {"mass", "uncounted"}
    elif plural == "pair":
        english |= {"bare": single, "one": f"pair of {single}", "many": f"pairs of {single}"}
    if plural != "-":
        classes |= {"count"} if measure != "-" else {"uncounted"}
    chinese = {"": row["zh"], "measure": "" if measure == "-" else measure}
    _add_pronoun(chinese, english, classes)
    return Word("noun", chinese, english, classes, THEY if plural == "pair" else HE)


def _verb(row: Row, loader: _Loader) -> Word:
    head, _, tail = row["zh"].partition("/")
    whole = head + tail
    first = head[0] if not tail else head
    chinese = {"": whole, "了": f"{head}了{tail}", "过": f"{head}过{tail}", "完": f"{head}完{tail}",
               "head": head, "tail": tail, "A不A": f"{first}不{whole}", "long": whole + head if tail else whole}  # fmt: skip
    kind = "intransitive" if row["object"] == "-" else "transitive"
    wishes = {name: loader.wish(row[name] if row[name] != "-" else "") for name in ("subject", "object", "at")}
    classes = loader.classes(f"{kind} {row['classes']}")
    if row["at"] and row["at"] != "-":
        classes |= {"placed"}
    return Word("verb", chinese, loader.verb_forms(row["en"]), classes, wishes=wishes)


def _adjective(row: Row, loader: _Loader) -> Word:
    english = row["en"]
    classes = loader.classes(row["classes"])
    more, most = f"more {english}", f"most {english}"
    if row["more"] == "er":
        more, most = morphology.comparative(english), morphology.superlative(english)
    elif row["more"]:
        more, most = row["more"].split()
    attribute = row["zh"] if "direct" in classes else row["zh"] + "的"
    chinese = {"": row["zh"], "的": attribute, "A不A": f"{row['zh'][0]}不{row['zh']}"}
    forms = {"": english, "more": more, "most": most}
    return Word("adjective", chinese, forms, classes, wishes={"describes": loader.wish(row["describes"])})


def _place(row: Row, loader: _Loader) -> Word:
    english = {"": row["en"], "at": row["at"] or f"in {row['en']}", "to": row["to"] or f"to {row['en']}"}
    chinese = {"": row["zh"], "in": row["in"] or row["zh"]}
    return Word("place", chinese, english, loader.classes(row["classes"]))


def _pronoun(row: Row, loader: _Loader) -> Word:
    english = {"": row["en"], **{case: row[case] for case in ("him", "his", "himself")}, "he": row["en"]}
    chinese = {"": row["zh"], "he": row["zh"]}
    return Word("pronoun", chinese, english, loader.classes(row["classes"]), _AGREEMENT[row["agreement"]])


def _name(row: Row, loader: _Loader) -> Word:
    classes = loader.classes(row["classes"])
    chinese, english = {"": row["zh"]}, {"": row["en"], "him": row["en"], "his": morphology.possessive(row["en"])}
    _add_pronoun(chinese, english, classes)
    return Word("name", chinese, english, classes)


def _catenative(row: Row, loader: _Loader) -> Word:
    """A verb before a verb: 想 = want to."""
    forms = {"": row["zh"], "A不A": f"{row['zh'][0]}不{row['zh']}"}
    return Word("catenative", forms, loader.verb_forms(row["en"]), loader.classes(row["classes"]))


def _plain(kind: str) -> Callable[[Row, _Loader], Word]:
    """A word whose further columns are simply its other forms: `zh.FORM` or `en.FORM`."""

    def read(row: Row, loader: _Loader) -> Word:
        def forms(language: str) -> Forms:
            named = {column[3:]: cell for column, cell in row.items() if column.startswith(language + ".")}
            return {"": row[language], **named}

        return Word(kind, forms("zh"), forms("en"), loader.classes(row["classes"]))

    return read


def _add_pronoun(chinese: Forms, english: Forms, classes: frozenset[str]) -> None:
    for gender, (zh, en) in _PRONOUN.items():
        if gender in classes:
            chinese["he"], english["he"] = zh, en


def _numbers(path: Path) -> Iterator[Word]:
    """The numbers named in numbers.tsv by class, first, last and step; a number may have several classes."""
    classes: dict[int, list[str]] = {}
    for row in table(path):
        for number in range(int(row["first"]), int(row["last"]) + 1, int(row["step"])):
            classes.setdefault(number, []).append(row["class"])
    for number in sorted(classes):
        yield _number(number, frozenset(classes[number]))


def _number(number: int, classes: frozenset[str]) -> Word:
    """A number as a word."""
    chinese = {"": numerals.chinese(number), "count": numerals.counting(number)}
    english = {"": numerals.english(number), "th": numerals.ordinal(number)}
    return Word("number", chinese, english, classes, THEY)


READERS: Mapping[str, Callable[[Row, _Loader], Word]] = {
    "noun": _noun, "verb": _verb, "adjective": _adjective, "place": _place, "pronoun": _pronoun, "name": _name,
    "catenative": _catenative,
    **{kind: _plain(kind) for kind in ("modal", "time", "adverb", "nation", "weather", "phrase")},
}  # fmt: skip
