"""A token corpus gives back what was encoded, whatever the shards, and goes on after a kill as if nothing had been."""

import numpy as np
import pytest

from clearhead.core.errors import DataError
from clearhead.data.corpora import Document
from clearhead.data.readings import SentencePairs
from clearhead.data.token_corpus import TokenCorpus, whole_documents, write_corpus
from clearhead.text import train_tokenizer

TEXTS = ["abc", "de", "", "fghij", "a" * 30, "bc", "é中", "d"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("char", TEXTS)


def documents(texts=TEXTS):
    return [Document(each, f"text {number}") for number, each in enumerate(texts)]


def flat(corpus):
    return corpus.stretch(0, corpus.tokens).tolist(), corpus.ends(0, len(corpus)).tolist()


@pytest.mark.parametrize("shard_tokens", [1, 5, 17, 1000])
def test_sequences_come_back_with_their_ends_for_any_shards(tokenizer, tmp_path, shard_tokens):
    corpus = write_corpus(tmp_path / "c", documents(), tokenizer, shard_tokens=shard_tokens)
    expected = [[*tokenizer.encode(each), tokenizer.eos] for each in TEXTS]
    assert [corpus.stretch(*span).tolist() for span in corpus.spans(0, len(corpus)).tolist()] == expected
    assert len(corpus) == len(TEXTS)
    assert corpus.bytes == sum(len(each.encode()) for each in TEXTS)
    whole = np.concatenate(expected)
    for start in range(0, corpus.tokens, 3):
        for stop in range(start, corpus.tokens + 1, 5):
            assert corpus.stretch(start, stop).tolist() == whole[start:stop].tolist()
    assert corpus.spans(2, 5).tolist() == corpus.spans(0, 8).tolist()[2:5]


def test_pieces_of_a_document_are_one_sequence_across_shards(tokenizer, tmp_path):
    pieces = [Document("abc", "", last=False), Document("de", "", last=False), Document("fg", ""), Document("h", "")]
    corpus = write_corpus(tmp_path / "c", pieces, tokenizer, shard_tokens=2)
    found = [tokenizer.decode(corpus.stretch(*span)) for span in corpus.spans(0, len(corpus)).tolist()]
    assert found == ["abcdefg", "h"]
    assert len(list((tmp_path / "c").glob("shard-*"))) > 2


def test_sentences_are_sequences_and_an_empty_one_ends_a_document(tokenizer, tmp_path):
    corpus = write_corpus(
        tmp_path / "c", documents(["ab\n\ncd\n", "e"]), tokenizer, units=SentencePairs.units, close=False
    )
    found = [tokenizer.decode(corpus.stretch(*span)) for span in corpus.spans(0, len(corpus)).tolist()]
    assert found == ["ab", "cd", "", "e", ""]


class KillError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 4, 6])
def test_a_killed_encoding_goes_on_and_ends_the_same_bit_for_bit(tokenizer, tmp_path, monkeypatch, after):
    monkeypatch.setattr("clearhead.data.token_corpus.CHUNK", 1)
    write_corpus(tmp_path / "whole", documents(), tokenizer, shard_tokens=5)

    def dies():
        for number, each in enumerate(documents()):
            if number == after:
                raise KillError
            yield each

    with pytest.raises(KillError):
        write_corpus(tmp_path / "parts", dies(), tokenizer, shard_tokens=5)
    assert not (tmp_path / "parts/corpus.json").exists()
    left = {each: each.stat().st_mtime_ns for each in (tmp_path / "parts").glob("shard-*/*.bin")}
    assert left or after == 1
    write_corpus(tmp_path / "parts", documents(), tokenizer, shard_tokens=5)
    for path in (tmp_path / "whole").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "parts" / path.relative_to(tmp_path / "whole")).read_bytes(), path
    assert all(each.stat().st_mtime_ns == time for each, time in left.items())


def test_a_complete_corpus_is_opened_and_not_read_again(tokenizer, tmp_path):
    write_corpus(tmp_path / "c", documents(), tokenizer)

    def never():
        raise AssertionError
        yield

    assert flat(write_corpus(tmp_path / "c", never(), tokenizer)) == flat(TokenCorpus(tmp_path / "c"))


@pytest.mark.parametrize("complete", [True, False])
def test_another_tokenizer_or_reading_is_refused(tokenizer, tmp_path, complete):
    write_corpus(tmp_path / "c", documents(), tokenizer, shard_tokens=5)
    if not complete:
        (tmp_path / "c/corpus.json").unlink()
    for other, units in ((train_tokenizer("char", ["abcd"]), whole_documents), (tokenizer, SentencePairs.units)):
        with pytest.raises(DataError, match="another tokenizer or reading"):
            write_corpus(tmp_path / "c", documents(), other, units=units)


@pytest.mark.parametrize(
    "name", ["corpus.json", "shard-00001/tokens.bin", "shard-00001/ends.bin", "shard-00001/shard.json"]
)
@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-2])])
def test_damage_is_told_in_one_line(tokenizer, tmp_path, name, harm):
    write_corpus(tmp_path / "c", documents(), tokenizer, shard_tokens=5)
    harm(tmp_path / "c" / name)
    with pytest.raises(DataError) as caught:
        TokenCorpus(tmp_path / "c")
    assert str(tmp_path / "c") in str(caught.value)


def test_a_stretch_outside_is_an_error(tokenizer, tmp_path):
    corpus = write_corpus(tmp_path / "c", documents(), tokenizer)
    for start, stop in ((-1, 2), (0, corpus.tokens + 1), (3, 2)):
        with pytest.raises(IndexError):
            corpus.stretch(start, stop)
