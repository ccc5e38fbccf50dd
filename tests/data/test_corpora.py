"""A corpus yields its documents whole, in order, again and again, and never more than a piece at a time."""

import importlib.util
import json
import sys
import tracemalloc

import pytest

from clearhead.core.errors import ConfigError, DataError
from clearhead.core.registry import Choice
from clearhead.data.corpora import CORPORA, text

TEXTS = ["One day.\nA cat \u2028 sat.\n", "第二回\n\u3000中文", "last \x85 one"]
EACH_CORPUS = pytest.mark.parametrize("name", CORPORA.names())


def build(folder, kind, **options):
    return CORPORA.build(Choice(kind=kind, options=options), folder)


@pytest.fixture
def sample(tmp_path):
    """A function from the name of a corpus to a choice of it that holds TEXTS, each with a line end after it."""
    (tmp_path / "plain").mkdir()
    for number, each in enumerate(TEXTS):
        (tmp_path / f"plain/{number}.txt").write_bytes(each.encode() + b"\n")
    records = "".join(json.dumps({"text": each + "\n", "id": 1}, ensure_ascii=False) + "\n" for each in TEXTS)
    (tmp_path / "a.jsonl").write_text(records, encoding="utf-8")
    (tmp_path / "chapters.txt").write_text("".join(f"# {n}\n{each}\n" for n, each in enumerate(TEXTS)))

    def make(name):
        inner = {"kind": "text", "file": "plain/*.txt"}
        if name == "parquet":
            arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
            parquet.write_table(arrow.table({"text": [each + "\n" for each in TEXTS]}), tmp_path / "a.parquet")
        options = {
            "text": {"file": "plain/*.txt"},
            "chapters": {"file": "chapters.txt", "heading": "^# [0-9]$"},
            "jsonl": {"file": "a.jsonl"},
            "parquet": {"file": "a.parquet"},
            "folder": {"path": "plain"},
            "part": {"of": inner},
            "share": {"of": inner},
            "first": {"of": inner, "characters": 1_000_000},
        }
        if name not in options:
            raise NotImplementedError(f"say in this fixture how the files of the corpus {name!r} look")
        return CORPORA.build(Choice(kind=name, options=options[name]), tmp_path)

    return make


@EACH_CORPUS
def test_documents_come_whole_in_order_and_again(name, sample):
    corpus = sample(name)
    headings = [f"# {n}\n" if name == "chapters" else "" for n in range(3)]
    for _ in range(2):
        found = list(corpus)
        assert [each.text for each in found] == [f"{head}{each}\n" for head, each in zip(headings, TEXTS, strict=True)]
        assert all(each.last for each in found)
        assert len({each.where for each in found}) == 3


def test_a_document_may_be_a_file_a_paragraph_or_a_line(tmp_path):
    (tmp_path / "a.txt").write_text("\n  \none\ntwo\n\n\nthree\n")
    found = {unit: [each.text for each in build(tmp_path, "text", file="a.txt", document=unit)] for unit in text.UNITS}
    assert found == {
        "file": ["\n  \none\ntwo\n\n\nthree\n"],
        "paragraph": ["one\ntwo", "three"],
        "line": ["one", "two", "three"],
    }
    assert [each.where[-6:] for each in build(tmp_path, "text", file="a.txt", document="paragraph")] == [
        "line 3",
        "line 7",
    ]


def test_pieces_of_a_long_document_are_its_text(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "PIECE", 20)
    lines = [f"line {number} of the text\n" if number % 3 else "\n" for number in range(50)]
    (tmp_path / "a.txt").write_text("".join(lines))
    found = list(build(tmp_path, "text", file="a.txt"))
    assert len(found) > 10
    assert "".join(each.text for each in found) == "".join(lines)
    assert [each.last for each in found] == [False] * (len(found) - 1) + [True]


def test_pieces_of_chapters_end_with_their_chapter(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "PIECE", 12)
    (tmp_path / "a.txt").write_text("before\n# one\naaaaaaaaaaaa\nbbbbbbbbbbbb\n# two\nc\n")
    found = [(each.text, each.last) for each in build(tmp_path, "chapters", file="a.txt", heading="^# ")]
    assert found == [
        ("before\n", True),
        ("# one\naaaaaaaaaaaa\n", False),
        ("bbbbbbbbbbbb\n", True),
        ("# two\nc\n", True),
    ]


def test_reading_holds_one_piece(tmp_path):
    (tmp_path / "a.txt").write_text("word " * 10 + "\n")
    line = "abcdefghij" * 5 + "\n"
    (tmp_path / "b.txt").write_text(line * 400_000)  # 20 MB
    tracemalloc.start()
    total = sum(len(each.text) for each in build(tmp_path, "folder"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 51 + 51 * 400_000
    assert peak < 8_000_000


@pytest.mark.parametrize("cut", [0.0, 0.25, 0.5, 0.9])
def test_parts_side_by_side_are_the_corpus(tmp_path, cut):
    (tmp_path / "a.txt").write_text("abcdefghij\nklmnopqrst\nuvwxyz\n")
    of = {"kind": "text", "file": "a.txt", "document": "line"}
    parts = [build(tmp_path, "part", of=of, stop=cut)] if cut else []
    parts += [build(tmp_path, "part", of=of, start=cut)]
    assert "".join(each.text for part in parts for each in part) == "abcdefghijklmnopqrstuvwxyz"
    if cut:
        assert sum(len(each.text) for each in parts[0]) == int(26 * cut)


def test_a_part_ends_its_last_document(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "PIECE", 4)
    (tmp_path / "a.txt").write_text("abcd\nefgh\nijkl\n")
    of = {"kind": "text", "file": "a.txt"}
    for start, stop in ((0.0, 0.4), (0.4, 1.0), (0.0, 1 / 3)):
        assert [each.last for each in build(tmp_path, "part", of=of, start=start, stop=stop)][-1]


def test_shares_divide_documents_by_their_text_alone(tmp_path):
    lines = [f"text {number}" for number in range(2000)]
    of = {"kind": "text", "file": "a.txt", "document": "line"}
    (tmp_path / "a.txt").write_text("\n".join(lines))
    most = {each.text for each in build(tmp_path, "share", of=of, stop=0.9)}
    rest = {each.text for each in build(tmp_path, "share", of=of, start=0.9)}
    assert most | rest == set(lines)
    assert not most & rest
    assert 150 < len(rest) < 250
    (tmp_path / "a.txt").write_text("\n".join(lines[::-1]))
    assert {each.text for each in build(tmp_path, "share", of=of, start=0.9)} == rest


def test_a_folder_is_read_through_and_hidden_files_are_not(tmp_path):
    for name in ("b/c.txt", "a.md", ".git/d.txt", "e.bin", ".f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [each.text.strip() for each in build(tmp_path, "folder")] == ["a.md", "b/c.txt"]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("text", {"file": "no.txt"}, "no such file"),
        ("text", {"file": "*.no"}, "no file matches"),
        ("folder", {"path": "no"}, "no such folder"),
        ("jsonl", {"file": "a.jsonl", "text": "body"}, r"line 1: not a text; found the keys 'text', 'n'"),
        ("jsonl", {"file": "a.jsonl", "text": "n"}, r"line 1: not a text; found 3"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(tmp_path, kind, options, message):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "n": 3}\n')
    with pytest.raises(DataError, match=message):
        list(build(tmp_path, kind, **options))


@pytest.mark.parametrize(("characters", "count"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3), (99, 3)])
def test_the_first_characters_end_with_a_document_or_piece(tmp_path, characters, count):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("abc\n")
    found = list(build(tmp_path, "first", of={"kind": "text", "file": "*.txt"}, characters=characters))
    assert [each.text for each in found] == ["abc\n"] * count
    assert found[-1].last


def test_the_first_characters_of_one_long_document_are_a_document_and_no_more_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "PIECE", 8)
    (tmp_path / "a.txt").write_text("abc\n" * 9)
    long = {"kind": "text", "file": "a.txt"}
    assert [each.last for each in build(tmp_path, "text", file="a.txt")] == [False] * 4 + [True]
    assert [each.last for each in build(tmp_path, "first", of=long, characters=12)] == [False, True]


def test_a_damaged_parquet_file_is_told_in_one_line(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(DataError, match=r"a\.parquet"):
        list(build(tmp_path, "parquet", file="a.parquet"))


def test_damage_in_the_middle_of_a_parquet_file_is_told_with_its_name(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = arrow.table({"text": [f"text number {number} " * 20 for number in range(3000)]})
    parquet.write_table(rows, tmp_path / "a.parquet", row_group_size=500)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(each ^ 255 for each in content[middle : middle + 200])
    (tmp_path / "a.parquet").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"a\.parquet: not a Parquet file, or damaged"):
        list(build(tmp_path, "parquet", file="a.parquet"))


def test_nulls_in_a_parquet_file_are_passed_over_but_numbers_are_not_texts(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"text": ["a", None, "", "b"], "n": [1, 2, 3, 4]}), tmp_path / "a.parquet")
    found = list(build(tmp_path, "parquet", file="a.parquet"))
    assert [(each.text, each.where.rpartition(", ")[2]) for each in found] == [("a", "row 1"), ("b", "row 4")]
    with pytest.raises(DataError, match="row 1: not a text; found 1"):
        list(build(tmp_path, "parquet", file="a.parquet", text="n"))


def test_a_missing_parquet_file_and_a_missing_package_are_told_apart(tmp_path, monkeypatch):
    from clearhead.core.errors import UsageError

    if importlib.util.find_spec("pyarrow"):
        with pytest.raises(DataError, match=r"no\.parquet: no such file"):
            list(build(tmp_path, "parquet", file="no.parquet"))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"need the package pyarrow; pip install 'clearhead\[parquet\]'"):
        list(build(tmp_path, "parquet", file="no.parquet"))


def test_a_missing_column_names_those_there_are(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"body": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column 'text'; found 'body'"):
        list(build(tmp_path, "parquet", file="a.parquet"))


def test_impossible_options_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="share of a corpus is empty"):
        build(tmp_path, "part", of="folder", start=0.5, stop=0.5)
    with pytest.raises(ConfigError, match="not a regular expression"):
        build(tmp_path, "chapters", file="a", heading="(")
    with pytest.raises(ConfigError, match="no corpus of kind 'txt'"):
        CORPORA.check(Choice(kind="part", options={"of": "txt"}))
