"""What every kind of tokenizer promises, whatever its algorithm."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.core.errors import TokenizerError
from clearhead.core.registry import Choice
from clearhead.text import TOKENIZERS, Tokenizer
from clearhead.text.special import BERT, PLAIN

EACH_KIND = pytest.mark.parametrize("kind", TOKENIZERS.names())
EACH_LEARNER = pytest.mark.parametrize("kind", [name for name in TOKENIZERS.names() if TOKENIZERS.get(name).learns])
EACH_EXACT = pytest.mark.parametrize(
    "kind", [name for name in TOKENIZERS.names() if TOKENIZERS.get(name).learns and TOKENIZERS.get(name).exact]
)
KNOWN = st.text(string.ascii_letters + string.digits + " ,.!?'船灯。", max_size=40)


def bare(tokenizer: Tokenizer, text: str) -> str:
    """The text as the tokenizer normalises it, without blanks: what no kind may change."""
    normalizer = tokenizer.backend.normalizer
    return "".join((normalizer.normalize_str(text) if normalizer else text).split())


def choice(kind: str, **options: object) -> Choice:
    return Choice(kind=kind, options=options)


@EACH_KIND
def test_the_corpus_survives_a_round_trip(kind, trained, lines):
    tokenizer = trained(kind)
    restored = tokenizer.decode_batch(tokenizer.encode_batch(lines))
    assert [bare(tokenizer, each) for each in restored] == [bare(tokenizer, each) for each in lines]


@EACH_KIND
@settings(max_examples=60, deadline=None)
@given(text=KNOWN)
def test_any_text_of_known_characters_survives_a_round_trip(kind, trained, text):
    tokenizer = trained(kind)
    assert bare(tokenizer, tokenizer.decode(tokenizer.encode(text))) == bare(tokenizer, text)


@EACH_KIND
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(), max_size=40))
def test_any_string_at_all_has_ids_within_the_vocabulary(kind, trained, text):
    tokenizer = trained(kind)
    ids = tokenizer.encode(text)
    assert all(0 <= each < tokenizer.vocab_size for each in ids)
    assert isinstance(tokenizer.decode(ids), str)


@EACH_KIND
def test_training_twice_gives_the_same_tokenizer(kind, small, trained, lines):
    again = TOKENIZERS.build(small(kind)).train(iter(lines))
    assert again.to_json() == trained(kind).to_json()


@EACH_KIND
def test_a_saved_tokenizer_opens_equal(kind, trained, tmp_path):
    trained(kind).save(tmp_path)
    assert Tokenizer.load(tmp_path / "tokenizer.json") == trained(kind)


@EACH_KIND
def test_special_tokens_have_the_first_ids(kind, trained):
    tokenizer = trained(kind, extra_tokens=("<|user|>",))
    assert tokenizer.tokens(range(6)) in ([*PLAIN, "<|user|>"], [*BERT, "<|user|>"])
    assert (tokenizer.pad, tokenizer.unk, tokenizer.bos, tokenizer.eos, tokenizer.mask) == (0, 1, 2, 3, 4)
    assert tokenizer.special_ids == set(range(6))


@EACH_KIND
def test_text_cannot_forge_a_special_token(kind, small, lines):
    literals = ["<|user|>", *PLAIN, *BERT]
    texts = [f"{before}{each}{after}" for each in literals for before in ("", "a ") for after in ("", "b", ".")]
    corpus = lines + texts * 30  # frequent enough to be learned as one piece
    tokenizer = TOKENIZERS.build(small(kind, extra_tokens=["<|user|>"])).train(corpus)
    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.special_ids.isdisjoint(ids), text
        assert bare(tokenizer, tokenizer.decode(ids)) == bare(tokenizer, text)


@EACH_KIND
def test_no_text_gives_no_ids(kind, trained):
    tokenizer = trained(kind)
    assert tokenizer.encode("") == []
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.decode([]) == ""
    assert tokenizer.encode("", bos=True, eos=True) == [tokenizer.bos, tokenizer.eos]


@EACH_KIND
def test_a_batch_is_its_texts_one_by_one(kind, trained, lines):
    tokenizer, texts = trained(kind), [*lines[:7], "", *lines[-3:]]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(each) for each in texts]
    ids = tokenizer.encode_batch(texts)
    assert tokenizer.decode_batch(ids) == [tokenizer.decode(each) for each in ids]


@EACH_KIND
def test_special_ids_are_left_out_of_the_text_unless_asked_for(kind, trained):
    tokenizer = trained(kind)
    ids = tokenizer.encode("the old", bos=True, eos=True)
    assert tokenizer.decode([*ids, tokenizer.pad]) == "the old"
    assert tokenizer.decode(ids, skip_special=False) != "the old"


@EACH_KIND
def test_a_sentence_of_ten_thousand_words_is_encoded(kind, trained):
    tokenizer = trained(kind)
    text = "the old sailor " * 3_334
    assert len(tokenizer.encode(text)) >= 10_000


@EACH_KIND
@pytest.mark.parametrize("text", ["\0", "\ud800", "a\udfffb", "👩‍🚀", "\ufeff", "\u202e", "e\u0301", "\n\t "])
def test_odd_characters_are_encoded_alike_alone_and_in_a_batch(kind, trained, text):
    tokenizer = trained(kind)
    assert tokenizer.encode_batch([text]) == [tokenizer.encode(text)]
    assert isinstance(tokenizer.decode(tokenizer.encode(text)), str)


@EACH_KIND
def test_a_vocabulary_size_is_honoured(kind, small, trained):
    tokenizer, bound = trained(kind), small(kind).options.get("vocab_size", 261)
    assert len(tokenizer.vocabulary()) == tokenizer.vocab_size
    assert tokenizer.vocab_size == bound or (not TOKENIZERS.get(kind).exact and tokenizer.vocab_size < bound)


@EACH_LEARNER
@pytest.mark.parametrize("texts", [[], ["", " ", "\n"]])
def test_an_empty_corpus_is_refused(kind, texts):
    with pytest.raises(TokenizerError, match="empty corpus"):
        TOKENIZERS.build(choice(kind)).train(texts)


@EACH_LEARNER
def test_one_string_is_not_a_corpus(kind):
    with pytest.raises(TokenizerError, match=r"pass \[text\]"):
        TOKENIZERS.build(choice(kind)).train("one string")


@EACH_LEARNER
def test_a_corpus_of_something_else_is_refused(kind):
    with pytest.raises(TokenizerError, match="found int; expected str"):
        TOKENIZERS.build(choice(kind)).train(["text", 7])


@EACH_EXACT
def test_too_large_a_vocabulary_is_refused_with_the_size_that_works(kind, lines):
    with pytest.raises(TokenizerError, match="the corpus is too small for this vocabulary") as refusal:
        TOKENIZERS.build(choice(kind, vocab_size=50_000)).train(lines)
    reachable = int(refusal.value.remedy.split()[3])
    assert TOKENIZERS.build(choice(kind, vocab_size=reachable)).train(lines).vocab_size == reachable


@EACH_LEARNER
def test_too_small_a_vocabulary_is_refused_with_the_size_that_works(kind, lines):
    with pytest.raises(TokenizerError, match="cannot hold") as refusal:
        TOKENIZERS.build(choice(kind, vocab_size=5)).train(lines)
    least = int(refusal.value.remedy.split()[3])
    assert TOKENIZERS.build(choice(kind, vocab_size=least)).train(lines).vocab_size == least


@EACH_KIND
def test_normalisation_and_lower_case_are_options_of_every_kind(kind, trained):
    tokenizer = trained(kind, normalization="nfkc", lowercase=True)
    assert tokenizer.encode("THE old") == tokenizer.encode("the old")
