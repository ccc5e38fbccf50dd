"""Every source yields what its files hold, again and again, and names file and line of what it cannot read."""

import gzip
import json
import tracemalloc

import pytest

from clearhead.core.errors import ConfigError, DataError
from clearhead.core.registry import Choice
from clearhead.data.sources import SOURCES, Pair, read_lines, require_pairs

EACH_SOURCE = pytest.mark.parametrize("name", SOURCES.names())
EACH_FILE_SOURCE = pytest.mark.parametrize("name", [name for name in SOURCES.names() if name != "embedded"])
PLAIN_OR_PACKED = pytest.mark.parametrize("suffix", ["", ".gz"])


def read(choice, folder) -> list[tuple[str, str]]:
    return [(each.source, each.target) for each in SOURCES.build(choice, folder)]


def refusal(choice, folder) -> str:
    with pytest.raises(DataError) as caught:
        read(choice, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what every source promises ---


@EACH_SOURCE
def test_a_source_can_be_read_again_and_says_where_each_pair_is_from(name, sample, tmp_path):
    source = SOURCES.build(sample(name), tmp_path)
    first, second = list(source), list(source)
    assert first == second
    assert all(isinstance(each, Pair) and each.source and each.target for each in first)
    assert len({each.where for each in first}) == len(first)
    require_pairs(source, name)


@EACH_FILE_SOURCE
@PLAIN_OR_PACKED
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_newlines_end_lines(name, suffix, end, sample, pairs, tmp_path):
    assert read(sample(name, suffix, end=end), tmp_path) == pairs


@EACH_FILE_SOURCE
def test_a_byte_order_mark_is_no_text(name, sample, pairs, tmp_path):
    choice = sample(name)
    for each in [path for path in tmp_path.iterdir() if path.is_file()]:
        each.write_bytes(b"\xef\xbb\xbf" + each.read_bytes())
    assert read(choice, tmp_path) == pairs


@EACH_FILE_SOURCE
@PLAIN_OR_PACKED
def test_the_last_line_needs_no_newline(name, suffix, sample, pairs, tmp_path):
    choice = sample(name, suffix)
    for each in [path for path in tmp_path.iterdir() if path.is_file()]:
        text = gzip.decompress(each.read_bytes()) if suffix else each.read_bytes()
        each.write_bytes(gzip.compress(text[:-1]) if suffix else text[:-1])
    assert read(choice, tmp_path) == pairs


@EACH_FILE_SOURCE
def test_an_empty_text_stays_in_its_place(name, sample, tmp_path):
    pairs = [("一", "one"), ("", "two"), ("三", ""), ("", "")]
    assert read(sample(name, pairs=pairs), tmp_path) == pairs


@EACH_FILE_SOURCE
@PLAIN_OR_PACKED
def test_an_empty_file_is_refused_before_any_work(name, suffix, sample, tmp_path):
    source = SOURCES.build(sample(name, suffix, pairs=[]), tmp_path)
    assert list(source) == []
    with pytest.raises(DataError, match=r"data\.train: no sentence pairs"):
        require_pairs(source, "data.train")


@EACH_FILE_SOURCE
def test_an_undecodable_byte_names_its_line(name, sample, tmp_path):
    choice = sample(name)
    path = next(path for path in sorted(tmp_path.iterdir(), reverse=True) if path.is_file())
    lines = path.read_bytes().split(b"\n")
    lines[2] = b"ab\xff" + lines[2]
    path.write_bytes(b"\n".join(lines))
    message = refusal(choice, tmp_path)
    assert f"{path}, line 3: not UTF-8 text; found byte 0xff at position 2; convert the file" in message


@EACH_FILE_SOURCE
def test_a_truncated_archive_is_refused(name, sample, tmp_path):
    choice = sample(name, ".gz", pairs=[(f"{n}", f"{n * n}") for n in range(5000)])
    for each in [path for path in tmp_path.iterdir() if path.is_file()]:
        each.write_bytes(each.read_bytes()[:-9])
    assert "a damaged or truncated .gz file" in refusal(choice, tmp_path)


@EACH_FILE_SOURCE
def test_text_that_is_named_gz_and_gz_that_is_named_text_are_told(name, sample, tmp_path):
    choice = sample(name)
    for each in [path for path in tmp_path.iterdir() if path.is_file()]:
        each.write_bytes(gzip.compress(each.read_bytes()))
    assert "this is gzip: give the file a name that ends in .gz" in refusal(choice, tmp_path)
    choice = sample(name, ".gz")
    for each in tmp_path.glob("*.gz"):
        each.write_bytes(gzip.decompress(each.read_bytes()))
    assert "a damaged or truncated .gz file" in refusal(choice, tmp_path)


@EACH_FILE_SOURCE
def test_a_missing_file_and_a_folder_are_one_line(name, sample, tmp_path):
    choice = sample(name)
    for each in [path for path in tmp_path.iterdir() if path.is_file()]:
        each.unlink()
    assert "no such file or directory; check the path" in refusal(choice, tmp_path)
    for option, value in choice.options.items():
        if option in ("file", "source", "target"):
            (tmp_path / value).mkdir()
    assert "is a directory; check the path" in refusal(choice, tmp_path)


@EACH_FILE_SOURCE
def test_a_sentence_of_ten_thousand_words_is_read(name, sample, tmp_path):
    pairs = [("字" * 10_000, "word " * 9_999 + "end")]
    assert read(sample(name, pairs=pairs), tmp_path) == pairs


@EACH_FILE_SOURCE
def test_a_file_is_never_held_in_memory(name, sample, tmp_path):
    source = SOURCES.build(sample(name, pairs=[("一" * 40, "one " * 20)] * 20_000), tmp_path)
    tracemalloc.start()
    assert sum(1 for _ in source) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


# --- parallel files ---


@pytest.mark.parametrize(("sources", "targets"), [(5, 3), (3, 5), (4, 0), (0, 4), (3, 4), (4, 3)])
def test_files_of_unequal_length_are_counted_exactly(sources, targets, write, tmp_path):
    write("a.zh", "一\n" * sources)
    write("a.en", "one\n" * targets)
    message = refusal(Choice(kind="parallel", options={"source": "a.zh", "target": "a.en"}), tmp_path)
    assert f"the two files are not aligned; found {sources} and {targets} lines" in message


# --- columns ---


def test_columns_are_picked_by_number(write, tmp_path):
    write("a.tsv", "1\tcat\t猫\textra\n2\tdog\t狗\n")
    choice = Choice(kind="tsv", options={"file": "a.tsv", "source": 2, "target": 1})
    assert read(choice, tmp_path) == [("猫", "cat"), ("狗", "dog")]


def test_quotes_are_text(write, tmp_path):
    write("a.tsv", '"a\t"b"\n')
    assert read(Choice(kind="tsv", options={"file": "a.tsv"}), tmp_path) == [('"a', '"b"')]


def test_a_line_with_too_few_columns_is_named(write, tmp_path):
    path = write("a.tsv", "a\tb\na\n")
    message = refusal(Choice(kind="tsv", options={"file": "a.tsv"}), tmp_path)
    assert message == f"{path}, line 2: too few tab-separated columns; found 1; expected at least 2; " + (
        "mend or delete the line"
    )
    write("a.tsv", "a\tb\n\n")
    assert "line 2: an empty line" in refusal(Choice(kind="tsv", options={"file": "a.tsv"}), tmp_path)


@pytest.mark.parametrize("column", [-1, "first", 1.5])
def test_a_column_is_a_number_from_zero(column, tmp_path):
    with pytest.raises(ConfigError, match=r"option tsv\.source"):
        SOURCES.build(Choice(kind="tsv", options={"file": "a.tsv", "source": column}), tmp_path)


# --- JSON lines ---


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON; found expecting property name"),
        ('["a", "b"]', "not a JSON object; found a list"),
        ("null", "not a JSON object; found a NoneType"),
        ('{"zh": "一", "en": "one"}', "not a pair; found the keys 'zh', 'en'; expected text in 'source' and 'target'"),
        ('{"source": "一", "target": 1}', "not a pair"),
        ("{}", "not a pair; found no keys"),
        (r'{"source": "\ud83d", "target": "half"}', "half a surrogate pair"),
        ('{"source": ' + "[" * 100_000, "not JSON that can be read"),
        ('{"source": ' + "1" * 5_000 + "}", "not JSON that can be read"),
    ],
)
def test_a_line_that_is_no_pair_is_named(line, told, write, tmp_path):
    path = write("a.jsonl", '{"source": "a", "target": "b"}\n' + line + "\n")
    message = refusal(Choice(kind="jsonl", options={"file": "a.jsonl"}), tmp_path)
    assert message.startswith(f"{path}, line 2: {told}")


def test_keys_can_be_named_blank_lines_pass_and_escapes_are_read(write, tmp_path):
    write("a.jsonl", json.dumps({"zh": "😀", "en": "a\nb"}) + "\n\n  \n" + '{"zh": "二", "en": "two", "n": [1]}')
    choice = Choice(kind="jsonl", options={"file": "a.jsonl", "source": "zh", "target": "en"})
    assert read(choice, tmp_path) == [("😀", "a\nb"), ("二", "two")]


# --- the embedded grammar ---


def test_the_embedded_source_can_be_turned_round(tmp_path):
    options = {"split": "valid", "pairs": 5}
    forward = read(Choice(kind="embedded", options=options), tmp_path)
    backward = read(Choice(kind="embedded", options={**options, "reverse": True}), tmp_path)
    assert [(en, zh) for zh, en in forward] == backward


@pytest.mark.parametrize("wrong", [{"split": "dev"}, {"split": "test", "pairs": 0}, {"split": "test", "pairs": "many"}])
def test_wrong_options_of_the_embedded_source_are_refused(wrong, tmp_path):
    with pytest.raises(ConfigError, match="option embedded"):
        SOURCES.build(Choice(kind="embedded", options=wrong), tmp_path)


# --- lines ---


def test_lines_are_numbered_from_one(write):
    assert list(read_lines(write("a.txt", "a\n\nb\n"))) == [(1, "a"), (2, ""), (3, "b")]


def test_utf16_is_told_by_its_mark(write):
    path = write("a.txt", "hello".encode("utf-16"))
    with pytest.raises(DataError, match=r"line 1: not UTF-8 text; .* iconv -f UTF-16"):
        list(read_lines(path))
