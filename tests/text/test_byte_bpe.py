import json
from collections import Counter

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_bpe import encode, learn

from clearhead.text import ByteBpeKind
from clearhead.text.alphabet import byte_alphabet

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
GPT2_WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
PRINTABLE = {*range(33, 127), *range(161, 173), *range(174, 256)}


def symbols(word: str) -> tuple[bytes, ...]:
    return tuple(bytes([each]) for each in word.encode())


def raw(token: str) -> bytes:
    return bytes(byte_alphabet().index(character) for character in token)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_merges_and_ids_equal_those_of_a_plain_reference_on_a_thousand_sentences(language, sentences):
    texts = sentences(language)
    cut = [GPT2_WORDS.findall(text) for text in texts]
    order = [bytes([each]) for each in sorted(range(256), key=lambda byte: (byte not in PRINTABLE, byte))]
    tokenizer = ByteBpeKind(vocab_size=5 + 256 + 150).train(texts)
    merges = learn(Counter(symbols(word) for words in cut for word in words), order, 150)
    learned = json.loads(tokenizer.to_json())["model"]["merges"]
    assert [(raw(left), raw(right)) for left, right in learned] == merges
    ids = {token: 5 + place for place, token in enumerate([*order, *(left + right for left, right in merges)])}
    assert tokenizer.encode_batch(texts) == [
        [ids[each] for word in words for each in encode(symbols(word), merges)] for words in cut
    ]


@settings(max_examples=300)
@given(text=ANY_TEXT)
def test_any_text_comes_back_exactly(text, trained):
    tokenizer = trained("byte_bpe")
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk not in ids


@settings(max_examples=300)
@given(text=ANY_TEXT)
def test_any_text_comes_back_exactly_with_a_prefix_space(text, trained):
    tokenizer = trained("byte_bpe", prefix_space=True)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_with_a_prefix_space_the_first_word_equals_an_inner_one(trained):
    tokenizer = trained("byte_bpe", prefix_space=True)
    assert tokenizer.encode("sailor sailor") == 2 * tokenizer.encode("sailor")
