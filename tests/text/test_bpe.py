import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_bpe import encode, learn

from clearhead.core.registry import Choice
from clearhead.text import BpeKind, train_tokenizer

LATIN = st.text("abc de", max_size=30)


def symbols(word: str) -> tuple[str, ...]:
    return (*word[:-1], word[-1] + "</w>")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_merges_and_ids_equal_those_of_a_plain_reference_on_a_thousand_sentences(language, sentences):
    texts = sentences(language)
    words = Counter(symbols(word) for text in texts for word in text.split())
    inside, final = (
        {each for word in words for each in word if each.endswith("</w>") is last} for last in (False, True)
    )
    order = [*sorted(inside | {each.removesuffix("</w>") for each in final}), *sorted(final)]
    tokenizer = BpeKind(vocab_size=5 + len(order) + 150).train(texts)
    merges = learn(words, order, 150)
    assert [tuple(pair) for pair in json.loads(tokenizer.to_json())["model"]["merges"]] == merges
    ids = {token: 5 + place for place, token in enumerate([*order, *(left + right for left, right in merges)])}
    assert tokenizer.encode_batch(texts) == [
        [ids[each] for word in text.split() for each in encode(symbols(word), merges)] for text in texts
    ]


def test_the_example_of_the_paper():
    """Section 3.2: `e r</w>` stands nine times, `l o` seven; of `e w`, `n e` and `w er</w>`, six each, ids decide."""
    texts = ["low"] * 5 + ["lowest"] * 2 + ["newer"] * 6 + ["wider"] * 3
    tokenizer = train_tokenizer(Choice(kind="bpe", options={"vocab_size": 5 + 10 + 3 + 3}), texts)
    assert tokenizer.tokens(range(18, 21)) == ["er</w>", "lo", "ew"]
    assert tokenizer.pieces("lower") == ["lo", "w", "er</w>"]


@given(text=LATIN)
def test_decoding_restores_the_text_up_to_blanks(text, trained):
    tokenizer = trained("bpe")
    assert tokenizer.decode(tokenizer.encode(text)) == " ".join(text.split())


def test_a_literal_end_of_word_mark_is_not_one():
    texts = ["ab</w>c x</w>yz ab</w>cd"] * 20
    tokenizer = BpeKind(vocab_size=24).train(texts)
    assert tokenizer.decode(tokenizer.encode(texts[0])) == texts[0]


def test_a_literal_special_token_inside_a_word_is_not_learned():
    tokenizer = BpeKind(vocab_size=17).train(["<eos>b <eos>bb"] * 20)
    assert tokenizer.special_ids.isdisjoint(tokenizer.encode("<eos>b"))


def test_punctuation_can_be_words_of_their_own():
    tokenizer = BpeKind(vocab_size=21, split_punctuation=True).train(["a dog. a dog, a cat."] * 3)
    assert tokenizer.encode("dog.")[0] == tokenizer.encode("dog")[0]
    assert tokenizer.decode(tokenizer.encode("dog.")) == "dog ."


def test_an_unknown_character_is_one_unknown_token(trained):
    tokenizer = trained("bpe")
    assert tokenizer.encode("龙") == [tokenizer.unk]


def test_characters_outside_the_coverage_are_unknown():
    tokenizer = BpeKind(vocab_size=15, coverage=0.95, min_frequency=1).train(["aab abb bba"] * 30 + ["az"])
    assert "z" not in tokenizer.vocabulary()
    assert "b" in tokenizer.vocabulary()
