"""Labelled texts: read by column or key, numbered by class, cut to a length, collated with their pair types."""

import json

import numpy as np
import pytest

from clearhead.core.errors import DataError
from clearhead.core.registry import Choice
from clearhead.data.labelled import LABELLED, Labelled, class_names, class_number, encoded, labelled_batch
from clearhead.text import train_tokenizer

ROWS = [("a good film", "pos", "yes"), ("bad \u2028 film", "neg", "no"), ("meh", "neg", "")]


@pytest.fixture
def sample(tmp_path):
    """A function from a kind to its choice with files that hold ROWS."""

    def make(kind, **options):
        if kind == "tsv":
            (tmp_path / "a.tsv").write_text("text\tlabel\tother\n" + "".join("\t".join(row) + "\n" for row in ROWS))
            options = {"file": "a.tsv", "header": True, **options}
        elif kind == "jsonl":
            keys = ("text", "label", "other")
            lines = [json.dumps(dict(zip(keys, row, strict=True))) for row in ROWS]
            (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n\n")
            options = {"file": "a.jsonl", **options}
        else:
            raise NotImplementedError(f"say in this fixture how the files of the source {kind!r} look")
        return LABELLED.build(Choice(kind=kind, options=options), tmp_path)

    return make


@pytest.mark.parametrize("kind", LABELLED.names())
def test_texts_and_labels_come_in_order_and_again(kind, sample):
    source = sample(kind)
    for _ in range(2):
        assert [(each.text, each.label) for each in source] == [row[:2] for row in ROWS]
        assert all(each.other is None for each in source)


@pytest.mark.parametrize(("kind", "other"), [("tsv", 2), ("jsonl", "other")])
def test_pairs_have_a_second_text(kind, other, sample):
    assert [each.other for each in sample(kind, other=other)] == [row[2] for row in ROWS]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("tsv", {"label": 3}, r"line 2: too few tab-separated columns; found 3; expected at least 4"),
        ("jsonl", {"label": "class"}, r"line 1: not a labelled text; found the keys 'text', 'label', 'other'"),
    ],
)
def test_a_missing_column_or_key_is_told_with_its_place(kind, options, message, sample):
    with pytest.raises(DataError, match=message):
        list(sample(kind, **options))


def test_a_number_in_json_is_a_class_and_a_truth_value_is_not(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "label": true}\n')
    source = iter(LABELLED.build(Choice(kind="jsonl", options={"file": "a.jsonl"}), tmp_path))
    assert next(source).label == "1"
    with pytest.raises(DataError, match="line 2"):
        next(source)


def test_classes_are_numbered_in_their_order():
    assert class_names([Labelled("", each, "") for each in ("10", "9", "b", "a", "9")]) == ["9", "10", "a", "b"]
    assert class_number(Labelled("", "b", ""), ["a", "b"]) == 1
    with pytest.raises(DataError, match=r"file, line 3: a class .* found 'pso'; expected one of neg, pos; did"):
        class_number(Labelled("", "pso", "file, line 3"), ["neg", "pos"])


def test_rows_are_cut_at_the_longer_text_and_typed_after_the_first_sep():
    tokenizer = train_tokenizer("char", ["abcdefgh"])
    cls, sep, pad = tokenizer.need("cls"), tokenizer.need("sep"), tokenizer.need("pad")
    a, b, c = (tokenizer.token_id(each) for each in "abc")
    pair = encoded([Labelled("aaaaaa", "0", "", "bb"), Labelled("a", "0", "", "c")], tokenizer, 8)
    assert pair[0].tolist() == [cls, a, a, a, sep, b, b, sep]
    batch = labelled_batch(pair, [0, 1], pad=pad, sep=sep)
    assert batch.types.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0, 0]]
    assert batch.valid.sum(dim=1).tolist() == [8, 5]
    assert batch.ids[1].tolist() == [cls, a, sep, c, sep, pad, pad, pad]
    single = encoded([Labelled("abc" * 9, "0", "")], tokenizer, 5)
    assert single[0].tolist() == [cls, a, b, c, sep]
    assert labelled_batch(single, [0], pad=pad, sep=None).valid is None
    assert np.asarray(labelled_batch(single, [0], pad=pad, sep=None).labels).tolist() == [0]
