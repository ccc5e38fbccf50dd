import itertools
import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.text.wordpiece_trainer import split_characters, wordpiece_merges, wordpiece_vocabulary

CORPORA = st.dictionaries(st.text("abc", min_size=1, max_size=7), st.integers(1, 6), max_size=8)
HUGS = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}


def brute_force(counts: dict[str, int], gain: str, min_frequency: int) -> list[tuple[str, str, str]]:
    """Recounts every symbol and every pair at each step."""
    words = [(split_characters(word), count) for word, count in counts.items()]
    characters = sum(len(word) * count for word, count in words)
    merges = []
    while True:
        symbols: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words:
            for symbol in word:
                symbols[symbol] += count
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        frequent = [pair for pair in pairs if pairs[pair] >= min_frequency]
        if not frequent:
            return merges
        best = min(
            frequent,
            key=lambda pair: (-score(gain, pairs[pair], *map(symbols.get, pair), characters), -pairs[pair], pair),
        )
        joined = best[0] + best[1].removeprefix("##")
        merges.append((*best, joined))
        words = [(replaced(word, best, joined), count) for word, count in words]


def score(gain: str, pair: int, left: int, right: int, characters: int) -> float | Fraction:
    if gain == "ratio":
        return Fraction(pair, left * right)
    return pair * math.log(pair * characters / (left * right))


def replaced(word: list[str], pair: tuple[str, str], joined: str) -> list[str]:
    new: list[str] = []
    for symbol in word:
        # The left half waits at the end of `new`; a symbol that was just joined is another one, so it cannot match.
        if new and (new[-1], symbol) == pair and not (len(new) >= 1 and new[-1] is joined):
            new[-1] = joined
        else:
            new.append(symbol)
    return new


@pytest.mark.parametrize("gain", ["ratio", "total"])
@settings(max_examples=150, deadline=None)
@given(counts=CORPORA, min_frequency=st.integers(1, 4))
def test_merges_equal_those_of_a_trainer_that_recounts_at_each_step(gain, counts, min_frequency):
    fast = [merge[:3] for merge in wordpiece_merges(counts, min_frequency=min_frequency, gain=gain)]
    assert fast == brute_force(counts, gain, min_frequency)


def test_an_example_worked_by_hand():
    """Gains: ##g##s 5/(20*5); then pu, hu and five more 1/36, pu the most frequent; hu 1/19, as b##u; b##u 4/(4*4)."""
    merges = list(itertools.islice(wordpiece_merges(HUGS), 4))
    assert [merge.joined for merge in merges] == ["##gs", "pu", "hu", "bu"]
    assert [merge.gain for merge in merges] == [1 / 20, 1 / 36, 1 / 19, 1 / 4]
    assert [merge.frequency for merge in merges] == [5, 17, 15, 4]


def test_the_total_gain_starts_with_a_frequent_pair():
    """In nats: 20 log(113 / 36) for ##u##g, the same logarithm 17 times for p##u; but 5 log(113 / 20) for ##g##s."""
    first = next(wordpiece_merges(HUGS, gain="total"))
    assert first.joined == "##ug"
    assert first.gain == pytest.approx(20 * math.log(113 / 36))


def test_the_vocabulary_starts_with_the_characters_in_both_forms():
    assert wordpiece_vocabulary({"ab": 3, "ba": 1}, 5) == ["##a", "##b", "a", "b", "ab"]


def test_a_rare_pair_is_not_merged():
    assert next(iter(wordpiece_merges({"ab": 1, "cd": 2}, min_frequency=2))).joined == "cd"
    assert len(list(wordpiece_merges({"ab": 1, "cd": 2}, min_frequency=2))) == 1


def test_the_prefix_can_be_another():
    assert wordpiece_vocabulary({"ab": 2}, 3, prefix="_") == ["_b", "a", "ab"]
