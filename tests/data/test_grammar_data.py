"""A broken line of the grammar or lexicon is refused on load, with its place."""

import shutil
from pathlib import Path

import pytest

from clearhead.core.errors import DataError
from clearhead.data import grammar as package
from clearhead.data.grammar import Grammar
from clearhead.data.grammar.lexicon import Lexicon
from clearhead.data.grammar.rules import Rules
from clearhead.data.grammar.words import Wish

HOME = Path(package.__file__).parent


@pytest.fixture
def lexicon_folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HOME / "lexicon", tmp_path / "lexicon"))


def append(path: Path, line: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("nouns.tsv", "独角兽\tunicorn\t\t头\tmythical", r"nouns.tsv: 独角兽: unknown class; found mythical"),
        ("nouns.tsv", "独角兽\tunicorn\t\t匹匹\twild", r"unknown measure word; found 匹匹"),
        ("nouns.tsv", "苹果\tapple\t\t个\tfruit", r"entered twice"),
        ("verbs.tsv", "看\tstare at\tperson\t书\t\t\tact", r"看 书: a verb has two meanings.*read.*stare at"),
        ("verbs.tsv", "飞\tfly\tperson\tkites\t\t\tact", r"verbs.tsv: 飞: unknown class; found kites"),
        ("names.tsv", "小王\tXiao Wang\tnamed\tmale\textra", r"names.tsv line \d+: too many cells"),
        ("classes.yaml", "mythical: 独角兽", r"classes.yaml: mythical: no such noun; found 独角兽"),
    ],
)
def test_a_broken_word_is_refused(lexicon_folder, file, line, message):
    append(lexicon_folder / file, line)
    with pytest.raises(DataError, match=message):
        Grammar(Rules.load(), Lexicon.load(lexicon_folder))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('zh: "{S}。", S: name, pairs: S', "new.yaml: odd: a rule lacks a template; expected en"),
        ('zh: "{S。", en: "{S}.", S: name, pairs: S', "odd: a template has a broken brace"),
        ('zh: "{X}。", en: "{S}.", S: name, pairs: S', "odd: no such slot above; found X; expected S"),
        ('zh: "{S}。", en: "{S}.", S: nmae, pairs: S', "odd, slot S: no such kind of word or phrase; found nmae"),
        ('zh: "{S}。", en: "{S}.", S: name mael, pairs: S', "odd, slot S: unknown class; found mael"),
        ('zh: "{S}。", en: "{S:past}.", S: name, pairs: S', "has no such form; found past"),
        ('zh: "{V}{O}。", en: "{V} {O}.", O: noun for V.object, V: verb', "slot O: no such slot above; found V"),
        ('zh: "{V}{O}。", en: "{V} {O}.", V: verb, O: noun for V.colour', "slot O: unknown feature; found colour"),
        ('zh: "{V}{O}。", en: "{V} {O}.", V: verb, O: noun for', "slot O: a slot is cut short"),
        ('zh: "{S}。", en: "{S}.", S: name, pairs: S+', "not a pair of slots"),
        ('zh: "{S}。", en: "{S}.", S: name', "odd: a construction combines nothing; list its pairs"),
        ('zh: "{S}。", en: "{S}.", S: name, pairs: S, number: many', "unknown number; found many"),
    ],
)
def test_a_broken_rule_is_refused(tmp_path, rule, message):
    folder = Path(shutil.copytree(HOME / "rules", tmp_path / "rules"))
    (folder / "new.yaml").write_text(f"sentences:\n- {{name: odd, {rule}}}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message.replace("+", r"\+")):
        Grammar(Rules.load(folder), Lexicon.load())


@pytest.mark.parametrize(("text", "message"), [("sentences: [", "not YAML"), ("rules: {}", "not a file of rules")])
def test_a_broken_file_is_refused(tmp_path, text, message):
    (tmp_path / "new.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"new.yaml: {message}"):
        Rules.load(tmp_path)


def test_two_constructions_cannot_share_a_name(tmp_path):
    rule = '- {name: twin, zh: "{S}", en: "{S}", S: name, pairs: S}\n'
    (tmp_path / "new.yaml").write_text("sentences:\n" + rule + rule, encoding="utf-8")
    with pytest.raises(DataError, match="two constructions have one name; found twin"):
        Rules.load(tmp_path)


@pytest.mark.parametrize(
    ("wish", "classes", "allowed"),
    [
        ("", "anything", True),
        ("food|drink", "drink mass", True),
        ("food|drink", "tool", False),
        ("food mass", "food count", False),
        ("food -mass|meal", "food mass", False),
        ("food -mass|meal", "food count", True),
    ],
)
def test_a_wish_is_a_condition_on_classes(wish, classes, allowed):
    assert Wish.read(wish).allows(frozenset(classes.split())) is allowed
