"""Text that comes token by token is the text of all tokens; never half a character, never a part of a stop string."""

import functools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.apply.writing import Detokenizer, StopStrings, Writer
from clearhead.core.errors import ConfigError
from clearhead.core.registry import Choice
from clearhead.text import TOKENIZERS, train_tokenizer

TEXTS = ["the cat sat.", "你好,世界", "naïve café 😀 don't", "😀😀", "👩‍👩‍👧‍👦 x", " leading", "trailing ", "a\nb", ""]


@functools.cache
def tokenizer(name):
    """One of each kind, trained on words that nobody says."""
    draw = random.Random(7)
    words = ["".join(draw.choices("aeioklmnrst", k=draw.randint(1, 7))) for _ in range(900)]
    corpus = [*TEXTS, *(" ".join(draw.choices(words, k=6)) for _ in range(500))]
    size = {"vocab_size": 330} if "vocab_size" in TOKENIZERS.options(name) else {}
    return train_tokenizer(Choice(kind=name, options=size), corpus)


@pytest.mark.parametrize("name", TOKENIZERS.names())
def test_the_pieces_are_the_text(name):
    made = tokenizer(name)
    for text in [*TEXTS, "kalomin tasres itsun", "sun ratok 你 ba"]:
        ids = made.encode(text)
        for cut in range(len(ids) + 1):
            writer, pieces = Detokenizer(made, ids[:cut]), []
            for token in ids[cut:]:
                pieces.append(writer.add(token))
                assert "\ufffd" not in pieces[-1] or "\ufffd" in made.decode(ids)
            pieces.append(writer.finish())
            before, whole = made.decode(ids[:cut]), made.decode(ids)
            if "\ufffd" not in before and whole.startswith(before):
                assert before + "".join(pieces) == whole


def test_a_character_of_many_tokens_comes_whole():
    made = train_tokenizer("byte", [])
    writer = Detokenizer(made)
    pieces = [writer.add(each) for each in made.encode("é😀a")]
    assert pieces == ["", "é", "", "", "", "😀", "a"]


@given(st.lists(st.integers(5, 260), max_size=40))
@settings(max_examples=200, deadline=None)
def test_bytes_that_are_no_text_come_out_too(ids):
    made = train_tokenizer("byte", [])
    writer, shown = Detokenizer(made), ""
    for token in ids:
        shown += writer.add(token)
        assert made.decode(ids).startswith(shown)
    assert shown + writer.finish() == made.decode(ids)


def test_special_tokens_are_not_written():
    made = train_tokenizer("byte", [])
    writer = Detokenizer(made)
    ids = [*made.encode("a"), made.eos, *made.encode("b")]
    assert "".join(writer.add(each) for each in ids) + writer.finish() == "ab"


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
@settings(max_examples=300, deadline=None)
def test_a_stop_string_ends_the_text_wherever_it_is_cut(text, stops, data):
    finder, shown, rest = StopStrings(stops), "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        shown, rest = shown + finder.add(rest[:size]), rest[size:]
        first = [text[: len(text) - len(rest)].find(each) for each in stops]
        first = [each for each in first if each >= 0]
        if first:
            break
        assert all(each not in shown for each in stops)
    # a longer stop string that begins earlier may have been cut off by the end of a piece: what counts is what was seen
    seen = text[: len(text) - len(rest)]
    ends = [seen.find(each) for each in stops if each in seen]
    assert shown + ("" if ends else finder.finish()) == (seen[: min(ends)] if ends else text)
    assert (finder.found is not None) == bool(ends)


def test_a_writer_finds_stop_strings_across_tokens():
    made = train_tokenizer("byte", [])
    writer = Writer(made, [], ["END", "😀"])
    for token in made.encode("one EN two END three"):
        writer.add(token)
    assert (writer.text, writer.stopped) == ("one EN two ", "END")
    writer = Writer(made, [], ["😀"])
    for token in made.encode("é 😀 three"):
        writer.add(token)
    assert (writer.text, writer.stopped) == ("é ", "😀")
    writer = Writer(made, [], ["END"])
    for token in made.encode("the EN"):
        writer.add(token)
    assert writer.text == "the "
    writer.finish()
    assert writer.text == "the EN"


def test_stop_strings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="leave it out"):
        StopStrings(["a", ""])
    with pytest.raises(ConfigError, match=r"pass \[text\]"):
        StopStrings("END")
