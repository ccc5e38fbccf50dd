"""WordPiece training by likelihood gain (Schuster and Nakajima, 2012; Wu et al., 2016, arXiv:1609.08144,
section 4.1).

Byte pair encoding merges the most frequent pair. WordPiece merges the pair whose merge raises the likelihood
of the corpus under a unigram model most. `GAINS` has the two readings of "most" in use.

A merge changes count(a) and count(b), and so the gain of every pair that touches a or b, upwards as often as
downwards. A heap entry can therefore be too low as well as too high; the table keeps for each symbol the
pairs that it is part of, and all of them enter the heap anew after the merge. An entry that no longer tells
the truth is skipped when it surfaces.
"""

import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

Pair = tuple[str, str]
Gain = Literal["ratio", "total"]


def ratio(pair: int, left: int, right: int, characters: int) -> float:
    """count(ab) / (count(a) count(b)): the gain of one occurrence, the formula mostly quoted; prefers the rare.

    One correctly rounded division of integers, so that equal fractions compare equal on every machine.
    """
    return pair / (left * right)


def total(pair: int, left: int, right: int, characters: int) -> float:
    """count(ab) log(count(ab) N / (count(a) count(b))): the gain of all occurrences, in nats, to first order.

    N is the number of characters of the corpus; strictly it would shrink with every merge.
    """
    return pair * math.log(pair * characters / (left * right))


GAINS: Mapping[str, Callable[[int, int, int, int], float]] = {"ratio": ratio, "total": total}


class Merge(NamedTuple):
    """One learned rule: `left` followed by `right` becomes `joined`; so often, and with that gain."""

    left: str
    right: str
    joined: str
    gain: float
    frequency: int


def split_characters(word: str, prefix: str = "##") -> list[str]:
    """The symbols that a word starts out as: `cat` is `c ##a ##t`."""
    return [word[0], *(prefix + character for character in word[1:])]


def wordpiece_vocabulary(
    counts: Mapping[str, int], size: int, *, min_frequency: int = 2, gain: Gain = "ratio", prefix: str = "##"
) -> list[str]:
    """The symbols of the single characters, sorted, then each new symbol in the order of the merges.

    Args:
        counts: how often each word, without blanks, stands in the corpus.
        size: symbols to stop at; fewer where the corpus has no more, more where it has more single
            characters.
        min_frequency, gain, prefix: see `wordpiece_merges`.
    """
    vocabulary = dict.fromkeys(sorted({symbol for word in counts for symbol in split_characters(word, prefix)}))
    for merge in wordpiece_merges(counts, min_frequency=min_frequency, gain=gain, prefix=prefix):
        if len(vocabulary) >= size:
            break
        vocabulary[merge.joined] = None  # two merges may spell the same symbol: ab+c and a+bc
    return list(vocabulary)


def wordpiece_merges(
    counts: Mapping[str, int], *, min_frequency: int = 2, gain: Gain = "ratio", prefix: str = "##"
) -> Iterator[Merge]:
    """The merges of a corpus in the order of their gain, until no pair is frequent enough.

    Equal gains are decided by the larger count of the pair, then by `(left, right)` in the order of code
    points.

    Args:
        counts: how often each word, without blanks, stands in the corpus.
        min_frequency: a pair seen less often is not merged.
        gain: one of `GAINS`.
        prefix: marks a symbol that continues a word.
    """
    table = PairTable(counts, gain, prefix)
    heap = [table.entry(pair) for pair in table.pairs if table.pairs[pair] >= min_frequency]
    heapq.heapify(heap)
    while heap:
        entry = heapq.heappop(heap)
        pair = entry[2:]
        if entry != table.entry(pair):
            continue
        joined = pair[0] + pair[1].removeprefix(prefix)
        table.merge(pair, joined)
        yield Merge(*pair, joined, -entry[0], -entry[1])
        for changed in table.touching[pair[0]] | table.touching[pair[1]] | table.touching[joined]:
            if table.pairs[changed] >= min_frequency:
                heapq.heappush(heap, table.entry(changed))


class PairTable:
    """The words of a corpus as symbols, with the count of every symbol and of every pair of neighbours.

    Attributes:
        symbols, pairs: occurrences in the corpus; a pair that no longer occurs has no key.
        touching: the pairs that a symbol is part of.
    """

    def __init__(self, counts: Mapping[str, int], gain: Gain, prefix: str) -> None:
        self._gain = GAINS[gain]
        self._words = [split_characters(word, prefix) for word in counts]
        self._counts = list(counts.values())
        self._where: defaultdict[Pair, set[int]] = defaultdict(set)  # a word stays listed after its pair is gone
        self.symbols: Counter[str] = Counter()
        self.pairs: Counter[Pair] = Counter()
        self.touching: defaultdict[str, set[Pair]] = defaultdict(set)
        self._characters = sum(len(word) * count for word, count in counts.items())
        for index, (word, count) in enumerate(zip(self._words, self._counts, strict=True)):
            for symbol in word:
                self.symbols[symbol] += count
            for pair in itertools.pairwise(word):
                self._add(pair, count, index)

    def entry(self, pair: Pair) -> tuple[float, int, str, str]:
        """The sort key of a pair, best first: descending gain, descending count, then the symbols."""
        left, right = pair
        count = self.pairs[pair]
        gain = self._gain(count, self.symbols[left], self.symbols[right], self._characters) if count else 0.0
        return -gain, -count, left, right

    def merge(self, pair: Pair, joined: str) -> None:
        """Replace the pair by one symbol in every word, from left to right, and recount what that changes."""
        for index in self._where.pop(pair):
            self._words[index] = self._merged(index, pair, joined)

    def _merged(self, index: int, pair: Pair, joined: str) -> list[str]:
        word, count, new = self._words[index], self._counts[index], list[str]()
        place = 0
        while place < len(word):
            if word[place] != pair[0] or word[place + 1 : place + 2] != [pair[1]]:
                new.append(word[place])
                place += 1
                continue
            self._recount(pair, joined, count)
            if new:
                self._swap((new[-1], pair[0]), (new[-1], joined), count, index)
            if place + 2 < len(word):
                self._swap((pair[1], word[place + 2]), (joined, word[place + 2]), count, index)
            new.append(joined)
            place += 2
        return new

    def _recount(self, pair: Pair, joined: str, count: int) -> None:
        self.symbols[pair[0]] -= count
        self.symbols[pair[1]] -= count
        self.symbols[joined] += count
        self._remove(pair, count)

    def _swap(self, old: Pair, new: Pair, count: int, index: int) -> None:
        self._remove(old, count)
        self._add(new, count, index)

    def _add(self, pair: Pair, count: int, index: int) -> None:
        self.pairs[pair] += count
        self._where[pair].add(index)
        self.touching[pair[0]].add(pair)
        self.touching[pair[1]].add(pair)

    def _remove(self, pair: Pair, count: int) -> None:
        self.pairs[pair] -= count
        if not self.pairs[pair]:
            del self.pairs[pair]
            self.touching[pair[0]].discard(pair)
            self.touching[pair[1]].discard(pair)
