"""The lexicon: one TSV file for each kind of word, read into `Word`s with all their forms.

The first line of a file names its columns; `zh`, `en` and `classes` are in every file. An empty cell means "by rule".
Chinese separable verbs are written with a stroke where they separate (`洗/澡`). How the other columns are used:

    noun       plural: irregular; `-` mass; `pl` only plural (`pl bowl`: a bowl of noodles); `/the piano` says how
               a bare object is translated. measure: the Chinese measure word, `-` for what is not counted
    verb       subject, object: the classes that it takes (object `-`: none); at: kinds of places where it happens;
               with: its tools
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
from clearhead.data.grammar.words import LIKE_HE, LIKE_I, LIKE_THEY, Wish, Word, closure

Row = Mapping[str, str]
Forms = dict[str, str]
_AGREEMENT = {"I": LIKE_I, "they": LIKE_THEY, "he": LIKE_HE}
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
        self.nouns = {row["zh"] for row in table(folder / "nouns.tsv")}
        self.parents = self._parents()
        self.irregular = {row["base"]: (row["past"], row["done"]) for row in table(folder / "irregular_verbs.tsv")}
        self.measures = {row["zh"]: row["en"] for row in table(folder / "measures.tsv")}
        self.homographs = _homographs(table(folder / "verbs.tsv"))
        self.persons: list[frozenset[str]] = []  # the classes of each noun for a person
        self.place = ""  # of the row being read, for messages

    def load(self) -> Lexicon:
        words = {kind: tuple(self._words(kind)) for kind in READERS}
        words["number"] = tuple(_numbers(self.folder / "numbers.tsv"))
        used = (word.classes for kind in words.values() for word in kind)
        return Lexicon(words, frozenset(self.parents).union(*used))

    def _parents(self) -> dict[str, list[str]]:
        """classes.yaml read from below: which classes a class or a noun belongs to."""
        self.place = "classes.yaml"
        lists = yaml.safe_load((self.folder / "classes.yaml").read_text(encoding="utf-8"))
        parents: dict[str, list[str]] = {name: [] for name in lists}
        for name, members in lists.items():
            for member in members.split():
                if not member.isascii() and member not in self.nouns:
                    raise DataError("no such noun", where=f"{self.place}: {name}", found=member)
                parents.setdefault(member, []).append(name)
        return parents

    def _words(self, kind: str) -> Iterator[Word]:
        seen: dict[tuple[str, str], str] = {}
        for row in table(self.folder / f"{kind}s.tsv"):
            self.place = f"{kind}s.tsv: {row['zh']}"
            key = (row["zh"], row.get("object", ""))
            if key in seen:
                raise DataError("a word is entered twice", where=self.place, found=f"{seen[key]} and {row['en']}")
            seen[key] = row["en"]
            yield READERS[kind](row, self)

    def classes(self, row: Row) -> frozenset[str]:
        """The classes of a word, with all above them; it is also a class of its own."""
        names = row["classes"].split() + [row["zh"]] * (row["zh"] in self.parents)
        return closure(names, self.parents, self.known) | {row["zh"].replace("/", "")}

    def known(self, name: str) -> None:
        if name not in self.parents and name not in self.nouns:
            raise DataError("unknown class", where=self.place, found=name, remedy="add it to classes.yaml")

    def wish(self, text: str) -> Wish:
        wish = Wish.read(text)
        for name in wish.names:
            self.known(name)
        return wish

    def verb_forms(self, base: str) -> Forms:
        """The five English forms; of a verb of several words the first one changes."""
        first, space, rest = base.partition(" ")
        past = morphology.past(first)
        simple_past, done = self.irregular.get(first, (past, past))
        forms = {"": first, "s": morphology.third_person(first), "past": simple_past, "done": done,
                 "ing": morphology.gerund(first)}  # fmt: skip
        return {name: form + space + rest for name, form in forms.items()}


def _noun(row: Row, loader: _Loader) -> Word:
    measure = row["measure"]
    if measure not in loader.measures and measure != "-":
        raise DataError("unknown measure word", where=loader.place, found=measure, remedy="add it to measures.tsv")
    english, shape = _noun_forms(row, loader.measures.get(measure, ""))
    classes = loader.classes(row) | {shape}
    chinese = {"": row["zh"]}
    if measure == "-":
        classes |= {"uncounted"}
    else:
        chinese["measure"] = measure
    english["his"] = morphology.possessive(row["en"])
    _add_pronoun(chinese, english, classes)
    if "person" in classes:
        loader.persons.append(classes)
    return Word("noun", chinese, english, classes, LIKE_THEY if shape == "pl" else LIKE_HE)


def _noun_forms(row: Row, vessel: str) -> tuple[Forms, str]:
    """The English forms, and whether they are those of a thing, of a mass, or of shoes."""
    single, (shape, _, rest) = row["en"], row["plural"].partition(" ")
    if shape == "-":
        return _portions(single, vessel), "mass"
    if shape == "pl":
        return _portions(single, rest or "pair"), "pl"
    many, _, bare = row["plural"].partition("/")
    many = many or morphology.plural(single)
    return {"": single, "one": single, "many": many, "bare": bare or many}, "count"


def _portions(noun: str, vessel: str) -> Forms:
    """A cup of tea, two cups of tea, tea."""
    if not vessel:
        return {"": noun, "bare": noun}
    vessels = morphology.plural(vessel)
    return {"": noun, "bare": noun, "one": f"{vessel} of {noun}", "many": f"{vessels} of {noun}", "of": f"{vessel} of"}


def _verb(row: Row, loader: _Loader) -> Word:
    head, _, tail = row["zh"].partition("/")
    whole = head + tail
    first = head[0] if not tail else head
    chinese = {"": whole, "head": head, "tail": tail, "A不A": f"{first}不{whole}"}
    chinese |= {aspect: f"{head}{aspect}{tail}" for aspect in "了过完"}
    chinese["long"] = whole + head if tail else whole  # 游泳游 before how long or how well
    kind = "intransitive" if row["object"] == "-" else "transitive"
    features = ("subject", "object", "at", "with")
    wishes = {name: loader.wish("" if row[name] == "-" else row[name]) for name in features}
    classes = loader.classes(row) | {kind}
    classes |= {name for column, name in (("at", "placed"), ("with", "tooled")) if row[column]}
    if whole in loader.homographs:
        classes |= {"homograph"}
    if kind == "transitive" and any(wishes["object"].allows(person) for person in loader.persons):
        classes |= {"social"}
    return Word("verb", chinese, loader.verb_forms(row["en"]), classes, wishes=wishes)


def _homographs(rows: Iterator[Row]) -> set[str]:
    """Verbs such as 看 (read, watch), of which only the object tells the meaning."""
    first_meaning: dict[str, str] = {}
    verbs = [row for row in rows if row["object"] != "-"]
    return {row["zh"] for row in verbs if first_meaning.setdefault(row["zh"], row["en"]) != row["en"]}


def _adjective(row: Row, loader: _Loader) -> Word:
    english = row["en"]
    classes = loader.classes(row)
    more, most = f"more {english}", f"most {english}"
    if row["more"] == "er":
        more, most = morphology.comparative(english), morphology.superlative(english)
    elif row["more"]:
        more, most = row["more"].split()
    attribute = row["zh"] if "direct" in classes else row["zh"] + "的"
    chinese = {"": row["zh"], "的": attribute, "A不A": f"{row['zh'][0]}不{row['zh']}"}
    growing = more.replace("more", "more and more") if "more " in more else f"{more} and {more}"
    forms = {"": english, "more": more, "most": most, "growing": growing}
    return Word("adjective", chinese, forms, classes, wishes={"describes": loader.wish(row["describes"])})


def _place(row: Row, loader: _Loader) -> Word:
    english = {"": row["en"], "at": row["at"] or f"in {row['en']}", "to": row["to"] or f"to {row['en']}"}
    chinese = {"": row["zh"], "in": row["in"] or row["zh"]}
    return Word("place", chinese, english, loader.classes(row))


def _pronoun(row: Row, loader: _Loader) -> Word:
    english = {"": row["en"], **{case: row[case] for case in ("him", "his", "himself")}, "he": row["en"]}
    chinese = {"": row["zh"], "he": row["zh"]}
    return Word("pronoun", chinese, english, loader.classes(row), _AGREEMENT[row["agreement"]])


def _name(row: Row, loader: _Loader) -> Word:
    classes = loader.classes(row)
    chinese, english = {"": row["zh"]}, {"": row["en"], "him": row["en"], "his": morphology.possessive(row["en"])}
    _add_pronoun(chinese, english, classes)
    return Word("name", chinese, english, classes)


def _catenative(row: Row, loader: _Loader) -> Word:
    """A verb before another clause: 想 = want to, 知道 = know that, 叫 = tell."""
    forms = {"": row["zh"], "A不A": f"{row['zh'][0]}不{row['zh']}"}
    return Word("catenative", forms, loader.verb_forms(row["en"]), loader.classes(row))


def _plain(kind: str) -> Callable[[Row, _Loader], Word]:
    """A word whose further columns are simply its other forms: `zh.FORM` or `en.FORM`."""

    def read(row: Row, loader: _Loader) -> Word:
        def forms(language: str) -> Forms:
            named = {column[3:]: cell for column, cell in row.items() if column.startswith(language + ".")}
            return {"": row[language], **named}

        return Word(kind, forms("zh"), forms("en"), loader.classes(row))

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
    return Word("number", chinese, english, classes, LIKE_THEY)


READERS: Mapping[str, Callable[[Row, _Loader], Word]] = {
    "noun": _noun, "verb": _verb, "adjective": _adjective, "place": _place, "pronoun": _pronoun, "name": _name,
    "catenative": _catenative, "opinion": _catenative, "pivot": _catenative,
    **{kind: _plain(kind) for kind in ("modal", "time", "adverb", "nation", "weather", "calendar", "path", "greeting")},
}  # fmt: skip
