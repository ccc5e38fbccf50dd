"""Texts are cut into sentences, and put together again line by line."""

import pytest

from clearhead.apply.sentences import Sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("Mr. Smith met J. Brown. He left.", ["Mr. Smith met J. Brown.", "He left."]),
        ("我爱你。你呢？", ["我爱你。", "你呢？"]),
        ("他说：“好。”然后走了。", ["他说：“好。”然后走了。"]),
        ("version 3.5 costs 1.000 euros", ["version 3.5 costs 1.000 euros"]),
        ("He said “No.” She left.", ["He said “No.”", "She left."]),
        ("  ", []),
        ("", []),
    ],
)
def test_sentences(text, sentences):
    assert Sentences(text).all == sentences


def test_a_text_put_together_again_is_the_text():
    text = "One. Two.\nThree\n\n  \r\nFour."
    assert Sentences(text).replaced(Sentences(text).all) == "One. Two.\nThree\n\n\r\nFour."


def test_languages_without_spaces_get_none():
    text = Sentences("One. Two.")
    assert text.replaced(["一。", "二。"], "zh") == "一。二。"
    assert text.replaced(["Eins.", "Zwei."], "de") == "Eins. Zwei."
