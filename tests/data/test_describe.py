"""What is in a corpus, against a count by hand."""

import tracemalloc

import pytest

from clearhead.core.errors import DataError
from clearhead.core.registry import Choice
from clearhead.data.catalog import describe
from clearhead.data.describe import Column, duplicates
from clearhead.data.sources import SOURCES
from clearhead.text import TOKENIZERS


def test_a_text_is_counted_by_hand(write):
    assert describe(write("a.txt", "one\n\nthree\none\n  \n")) == {
        "lines": 5,
        "characters": 13,
        "empty": 2,
        "characters_median": 3,
        "characters_p90": 5,
        "characters_p99": 5,
        "characters_longest": 5,
        "duplicate_share": pytest.approx(1 / 5),
    }


@pytest.mark.parametrize("name", SOURCES.names())
def test_every_source_is_described_by_its_sides(name, sample, tmp_path):
    choice = sample(name)
    pairs = list(SOURCES.build(choice, tmp_path))
    facts = describe(choice, tmp_path)
    assert facts["pairs"] == len(pairs)
    assert facts["source_characters"] == sum(len(each.source) for each in pairs)
    assert facts["target_characters_longest"] == max(len(each.target) for each in pairs)
    assert facts["duplicate_share"] == facts["equal_sides_share"] == 0


def test_columns_and_keys_are_sides(write):
    table = describe(write("a.tsv.gz", "cat\t猫\ncat\t猫\ndog\t狗\tmore\nno\tno\n"))
    assert (table["lines"], table["column_0_characters"], table["column_2_characters"]) == (4, 11, 4)
    assert table["duplicate_share"] == table["equal_sides_share"] == 1 / 4
    assert table["column_0_duplicate_share"] == 1 / 4
    records = describe(write("a.jsonl", '{"zh": "猫", "en": "cat", "n": 1}\n{"zh": ""}\n'))
    assert (records["zh_characters"], records["zh_empty"], records["en_characters"]) == (1, 1, 3)


def test_a_folder_is_described_file_by_file(write, tmp_path):
    write("b.en", "one\ntwo\n")
    write("a.en.gz", "three\n")
    write(".hidden", "no")
    facts = describe(tmp_path)
    assert facts["a.en.gz lines"] == 1
    assert facts["b.en lines"] == 2
    assert not any("hidden" in each for each in facts)


def test_an_empty_file_has_no_lines_and_an_empty_folder_is_refused(write, tmp_path):
    assert describe(write("a.txt", "")) == {"lines": 0}
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match="no files in this folder"):
        describe(tmp_path)


def test_lengths_can_be_in_tokens(write):
    lines = ["ab", "abc", "", "b"]
    tokenizer = TOKENIZERS.build(Choice(kind="byte")).train(lines)
    facts = describe(write("a.txt", "\n".join(lines)), tokenizer=tokenizer)
    assert facts["tokens"] == sum(len(tokenizer.encode(each)) for each in lines)
    assert facts["tokens_longest"] == len(tokenizer.encode("abc"))
    assert facts["characters"] == 6


def test_percentiles_are_by_nearest_rank():
    column = Column(lambda texts: [len(each) for each in texts])
    column.add(["x" * length for length in range(1, 201)])
    facts = column.facts("characters")
    named = {name.removeprefix("characters_"): each for name, each in facts.items()}
    assert (named["median"], named["p90"], named["p99"], named["longest"]) == (100, 180, 198, 200)


def test_memory_holds_a_hash_for_each_line_and_no_text(write):
    path = write("a.txt", "".join(f"{n} " * 30 + "\n" for n in range(40_000)))
    tracemalloc.start()
    facts = describe(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert facts["lines"] == 40_000
    assert peak < path.stat().st_size / 3


def test_no_item_repeats_nothing():
    assert duplicates(Column(lambda texts: []).hashes) == 0.0
