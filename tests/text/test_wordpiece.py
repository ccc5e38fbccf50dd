import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.text import WordPieceKind, wordpiece_tokenizer
from clearhead.text.normalization import normalizer
from clearhead.text.special import BERT

BERT_UNCASED = normalizer("bert", lowercase=True)


def longest_match(word: str, pieces: set[str]) -> list[str]:
    """From the left, always the longest piece that fits; [UNK] for the whole word where none does."""
    found, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = [end for end in range(start + 1, len(word) + 1) if prefix + word[start:end] in pieces]
        if not ends:
            return ["[UNK]"]
        found.append(prefix + word[start : ends[-1]])
        start = ends[-1]
    return found


@settings(max_examples=300)
@given(
    pieces=st.sets(st.text("abc", min_size=1, max_size=4).flatmap(lambda each: st.sampled_from([each, "##" + each]))),
    words=st.lists(st.text("abcd", min_size=1, max_size=9), max_size=6),
)
def test_encoding_is_the_longest_match_from_the_left(pieces, words):
    tokenizer = wordpiece_tokenizer([*BERT, *sorted(pieces)], list(BERT), None)
    assert tokenizer.pieces(" ".join(words)) == [each for word in words for each in longest_match(word, pieces)]


@pytest.mark.parametrize("gain", ["ratio", "total"])
def test_real_sentences_are_cut_by_the_longest_match(gain, sentences):
    texts = sentences("en")
    tokenizer = WordPieceKind(vocab_size=400, gain=gain, min_frequency=5).train(texts)
    pieces = set(tokenizer.vocabulary())
    backend = tokenizer.backend
    for text in texts:
        words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))]
        assert tokenizer.pieces(text) == [each for word in words for each in longest_match(word, pieces)]


def test_a_word_longer_than_the_limit_is_unknown(lines):
    tokenizer = WordPieceKind(vocab_size=380, max_word=10).train(lines)
    assert tokenizer.unk not in tokenizer.encode("a" * 10)
    assert tokenizer.encode("a" * 11) == [tokenizer.unk]


def test_uncased_bert_normalisation_lowers_strips_accents_and_splits_chinese(trained):
    tokenizer = trained("wordpiece")
    assert tokenizer.encode("THE  óld\u0000") == tokenizer.encode("the old")
    assert tokenizer.pieces("船灯") == ["船", "灯"]


def test_cased_normalisation_keeps_case_and_accents():
    kind = WordPieceKind(vocab_size=20, lowercase=False, min_frequency=1)
    assert kind.normalizer is not None
    assert kind.normalizer.normalize_str("Él船") == "Él 船 "


def test_decoding_puts_no_space_before_a_punctuation_mark(trained):
    tokenizer = trained("wordpiece")
    assert tokenizer.decode(tokenizer.encode("the old sailor paints, my neighbour carries!")) == (
        "the old sailor paints, my neighbour carries!"
    )


def test_the_model_is_the_one_that_other_libraries_know(trained):
    model = json.loads(trained("wordpiece").to_json())["model"]
    assert (model["type"], model["unk_token"], model["continuing_subword_prefix"]) == ("WordPiece", "[UNK]", "##")
