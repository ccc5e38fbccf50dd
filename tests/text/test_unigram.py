import json
import math
from functools import lru_cache

from hypothesis import given
from hypothesis import strategies as st


@given(text=st.text("the old船灯 ", max_size=30))
def test_decoding_restores_the_text_up_to_blanks(text, trained):
    tokenizer = trained("unigram")
    assert tokenizer.decode(tokenizer.encode(text)) == " ".join(text.split())


@given(word=st.text("theoldsr", min_size=1, max_size=10))
def test_the_pieces_of_a_word_are_the_most_probable_ones(word, trained):
    tokenizer = trained("unigram")
    scores = dict(json.loads(tokenizer.to_json())["model"]["vocab"][5:])

    @lru_cache
    def best(rest: str) -> float:
        cuts = [scores[rest[:end]] + best(rest[end:]) for end in range(1, len(rest) + 1) if rest[:end] in scores]
        return max(cuts, default=-math.inf) if rest else 0.0

    found = sum(scores[piece] for piece in tokenizer.pieces(word))
    assert abs(found - best("▁" + word)) < 1e-9


def test_pieces_go_by_descending_probability(trained):
    vocabulary = json.loads(trained("unigram").to_json())["model"]["vocab"][5:]
    assert vocabulary == sorted(vocabulary, key=lambda each: (-each[1], each[0]))


def test_an_unknown_character_is_the_unknown_token(trained):
    tokenizer = trained("unigram")
    assert tokenizer.encode("龙")[-1] == tokenizer.unk
