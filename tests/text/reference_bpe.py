"""Byte pair encoding in its plainest form, recounted from nothing at each step: the judge of the fast one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

Symbol = TypeVar("Symbol", str, bytes)


def learn(words: Mapping[tuple[Symbol, ...], int], order: Sequence[Symbol], merges: int) -> list[tuple[Symbol, Symbol]]:
    """The most frequent pairs, one after the other; of equally frequent ones, that whose symbols came first."""
    words, rank, learned = dict(words), {symbol: place for place, symbol in enumerate(order)}, []
    for _ in range(merges):
        pairs: Counter[tuple[Symbol, Symbol]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], rank[pair[0]], rank[pair[1]]))
        learned.append(best)
        rank.setdefault(best[0] + best[1], len(rank))
        words = {joined(word, best): count for word, count in words.items()}
    return learned


def encode(word: tuple[Symbol, ...], merges: Sequence[tuple[Symbol, Symbol]]) -> tuple[Symbol, ...]:
    """The word after every merge that it allows, in the order in which they were learned."""
    present = set(pairwise(word))
    for pair in merges:
        if pair in present:
            word = joined(word, pair)
            present = set(pairwise(word))
    return word


def joined(word: tuple[Symbol, ...], pair: tuple[Symbol, Symbol]) -> tuple[Symbol, ...]:
    new: list[Symbol] = []
    place = 0
    while place < len(word):
        if word[place : place + 2] == pair:
            new.append(pair[0] + pair[1])
            place += 2
        else:
            new.append(word[place])
            place += 1
    return tuple(new)
