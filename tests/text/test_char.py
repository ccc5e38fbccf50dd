from hypothesis import given
from hypothesis import strategies as st

from clearhead.text import CharKind


def test_characters_come_by_descending_count_then_by_code_point():
    tokenizer = CharKind().train(["abba", "c\n", "a"])
    assert list(tokenizer.vocabulary())[5:] == ["a", "b", "\n", "c"]


@given(text=st.text("ab \n\t船", max_size=30))
def test_known_characters_come_back_exactly_blanks_included(text):
    tokenizer = CharKind().train(["ab \n\t船"])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == len(text)


def test_an_unknown_character_is_one_unknown_token():
    tokenizer = CharKind().train(["ab"])
    assert tokenizer.tokens(tokenizer.encode("aé船b")) == ["a", "<unk>", "<unk>", "b"]


def test_rare_characters_are_left_out():
    tokenizer = CharKind(min_frequency=2).train(["aabbc"])
    assert list(tokenizer.vocabulary())[5:] == ["a", "b"]
