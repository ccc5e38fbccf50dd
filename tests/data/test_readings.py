"""Rows of a corpus: everything once in validation, an order that a seed repeats, no row too long, documents apart."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearhead.core.errors import ConfigError, DataError
from clearhead.core.registry import Choice
from clearhead.data.corpora import Document
from clearhead.data.readings import READINGS, Frame, best_fit
from clearhead.data.token_corpus import write_corpus
from clearhead.text import train_tokenizer

EACH_READING = pytest.mark.parametrize("name", READINGS.names())
LETTERS = "abcdefghijklmnopqrstuvwxyz"
BOS = 2


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("char", [LETTERS + "\n"])


@pytest.fixture
def reading(tmp_path, tokenizer):
    """A function from a kind, documents and a frame to a reading; a document is a list of sentences."""

    def make(kind, documents, frame=Frame(BOS), shard_tokens=50, **options):
        part = READINGS.get(kind)
        texts = (Document("\n".join(each), "") for each in documents)
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        corpus = write_corpus(folder, texts, tokenizer, units=part.units, close=part.close, shard_tokens=shard_tokens)
        return READINGS.build(Choice(kind=kind, options=options), corpus, frame)

    return make


def sentences(count=60, seed=1):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 12, (count, 4))
    return [["".join(random.choice(list(LETTERS), size)) for size in each] for each in lengths]


def rows_of(plans, reading):
    return [reading.row(each) for each in plans]


def shown(rows):
    return [[np.asarray(part).tolist() for part in row] for row in rows]


@EACH_READING
def test_an_epoch_is_a_function_of_the_generator(name, reading):
    read = reading(name, sentences(), length=16)
    one, two, other = (rows_of(read.epoch(np.random.default_rng(seed)), read) for seed in (5, 5, 6))
    assert shown(one) == shown(two)
    assert shown(one) != shown(other)


@EACH_READING
def test_validation_rows_are_always_the_same(name, reading):
    read = reading(name, sentences(), length=16)
    assert shown(rows_of(read.once(), read)) == shown(rows_of(read.once(), read))


@EACH_READING
@pytest.mark.parametrize("frame", [Frame(BOS), Frame(BOS, shift=1), Frame(BOS, shift=1, room=3)])
def test_no_row_is_longer_than_its_length(name, reading, frame):
    read = reading(name, sentences(), frame, length=16)
    for row in [*rows_of(read.epoch(np.random.default_rng(0)), read), *rows_of(read.once(), read)]:
        pieces = row[:2] if name == "sentence_pairs" else row
        extra = 3 if name == "sentence_pairs" else len(pieces) * (frame.room - frame.shift)
        assert 0 < sum(map(len, pieces)) + extra <= 16


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("length", [5, 16, 200])
def test_packed_rows_hold_each_document_once_with_its_ends(reading, tokenizer, shift, length):
    """A model reads (or predicts) every token once; parts of a long document join to the document."""
    documents = sentences()
    read = reading("packed", documents, Frame(BOS, shift=shift), length=length)
    whole = Counter(tuple([BOS, *tokenizer.encode("\n".join(each)), tokenizer.eos][shift:]) for each in documents)
    total = Counter(token for each in whole.elements() for token in each)
    for plans in (read.once(), read.epoch(np.random.default_rng(0))):
        rows = rows_of(plans, read)
        pieces = [tuple(piece.tolist())[shift:] for row in rows for piece in row]
        assert Counter(token for each in pieces for token in each) == total
        uncut = {each for each in whole if len(each) <= length}
        assert all(whole[each] == Counter(pieces)[each] for each in uncut)
        firsts = sum(row_piece[0] == BOS for row in rows for row_piece in row)
        assert firsts == len(documents)


def test_parts_of_a_long_document_overlap_by_the_shift(reading, tokenizer):
    read = reading("packed", [["abcdefghij"]], Frame(BOS, shift=1), length=4)
    pieces = sorted((piece.tolist() for row in rows_of(read.once(), read) for piece in row), key=lambda x: x[0] != BOS)
    ids = [BOS, *tokenizer.encode("abcdefghij"), tokenizer.eos]
    assert [ids[0:5], ids[4:9], ids[8:12]] == sorted(pieces, key=lambda x: ids.index(x[0]))


def test_packing_leaves_little_padding(reading):
    documents = [["a" * int(size)] for size in np.random.default_rng(0).lognormal(3.5, 0.8, 2000).clip(1, 400)]
    read = reading("packed", documents, length=256, shard_tokens=1 << 20)
    rows = rows_of(read.epoch(np.random.default_rng(1)), read)
    filled = sum(len(piece) for row in rows for piece in row)
    assert filled / (256 * len(rows)) > 0.97


@given(st.lists(st.integers(1, 9), max_size=60))
def test_best_fit_places_each_item_once_and_wastes_no_row(sizes):
    rows = best_fit(sizes, 9)
    assert sorted(index for row in rows for index in row) == list(range(len(sizes)))
    loads = [sum(sizes[index] for index in row) for row in rows]
    assert all(load <= 9 for load in loads)
    assert sum(2 * load <= 9 for load in loads) <= 1  # two half-empty rows would have been one


@pytest.mark.parametrize("shift", [0, 1])
def test_windows_side_by_side_hold_each_token_once(reading, shift):
    read = reading("windows", sentences(), Frame(BOS, shift=shift), length=16)
    found = np.concatenate([each[shift:] for (each,) in rows_of(read.once(), read)])
    assert found.tolist() == read.corpus.stretch(shift, read.corpus.tokens).tolist()


def test_windows_begin_at_every_place_with_the_same_probability(reading):
    read = reading("windows", [["abcdefghijkl"]], Frame(BOS, shift=1), length=3)
    starts = Counter()
    random = np.random.default_rng(3)
    for _ in range(500):
        starts.update(read.epoch(random))
    expected = starts.total() / 10  # 13 tokens, windows of 4
    assert set(starts) == set(range(10))
    assert sum((count - expected) ** 2 / expected for count in starts.values()) < 27.9  # chi-square, 9 degrees, p 0.001


def test_a_text_shorter_than_a_window_is_refused(reading):
    with pytest.raises(DataError, match="shorter than one window"):
        reading("windows", [["abc"]], length=16)


@EACH_READING
def test_rows_without_room_are_refused(name, reading):
    with pytest.raises((ConfigError, DataError), match=r"no room for text|no two sentences"):
        reading(name, sentences(), Frame(BOS, room=3), length=3)


def test_half_of_the_pairs_follow_and_the_others_come_from_elsewhere(reading, tokenizer):
    documents = [[f"{a}{b}" + a * 3 for b in LETTERS[:8]] for a in LETTERS[:20]]  # a document by its first letter
    read = reading("sentence_pairs", documents, length=24, short=0.0, shard_tokens=1 << 20)
    follows = []
    for seed in range(20):
        for first, second, follow in rows_of(read.epoch(np.random.default_rng(seed)), read):
            one, other = tokenizer.decode(first), tokenizer.decode(second)
            home, away = Counter(one).most_common(1)[0][0], Counter(other).most_common(1)[0][0]
            assert follow == (home == away)
            if follow and len(first) + len(second) < 21:
                assert f"{one}{other}" in "".join(documents[LETTERS.index(home)])
            follows.append(follow)
    share = np.mean(follows)
    assert abs(share - 0.5) < 0.08  # the last sentence of a document has none after it


def test_each_sentence_of_a_document_is_a_first_part_or_follows_one(reading, tokenizer):
    documents = [[f"{a}{b}" for b in LETTERS[:7]] for a in LETTERS[:5]]
    read = reading("sentence_pairs", documents, length=40, other=0.0)
    for plan in read.epoch(np.random.default_rng(0)):
        if plan.follows:
            assert plan.first[1] == plan.second[0]


def test_a_corpus_without_two_sentences_is_refused(reading):
    with pytest.raises(DataError, match="no document with two sentences"):
        reading("sentence_pairs", [["abc"], ["de"]], length=16)
