"""Subword regularisation for byte pair encoding: BPE-dropout (Provilkov et al., 2020, arXiv:1910.13267)."""

import functools
import heapq
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from clearhead.core.errors import TokenizerError
from clearhead.text.tokenizer import Tokenizer, well_formed


class Random(Protocol):
    """A source of numbers in [0, 1): `random.Random` or `numpy.random.Generator`."""

    def random(self) -> float: ...


class Rule(NamedTuple):
    """A merge that could be done now; sorts by rank, then from left to right."""

    rank: int
    place: int
    left: int
    right: int
    joined: int


class SubwordSampler:
    """Encodes a text with some merges left out at random: a model sees several spellings of each word.

    At each step every possible merge is dropped with probability `dropout`, anew, and the earliest learned of
    the remaining ones is done; when all are dropped the word is finished. Dropping is drawn from the best
    merge down only until one survives, which gives the same distribution. How many merges survive before the
    first one is dropped is one draw (geometric), and most words end before it: they keep their ordinary spelling.
    The random state lives with the caller, so a resumed run can draw the same spellings; the library's own
    dropout cannot be seeded.

    Args:
        tokenizer: one of kind `byte_bpe` or `bpe`, or any other with plain BPE merges.
        dropout: probability between 0 (the ordinary encoding) and 1 (single characters or bytes). A long word
            has many steps, each a new chance for its merges: for Chinese, whose sentences are words here, the
            paper takes 0.6 in place of 0.1.

    Raises:
        TokenizerError: the tokenizer has no merges, or applies them in a way of its own.
    """

    def __init__(self, tokenizer: Tokenizer, *, dropout: float = 0.1) -> None:
        if not 0 <= dropout <= 1:
            raise TokenizerError("dropout is a probability", found=dropout, expected="0 to 1")
        self.tokenizer, self.dropout = tokenizer, dropout
        model = _plain_bpe(tokenizer)
        self._ids: dict[str, int] = model["vocab"]
        self._unknown: int | None = self._ids.get(model["unk_token"]) if model["unk_token"] else None
        self._suffix: str = model["end_of_word_suffix"] or ""
        self._rules = _rules(model)
        self._start = functools.lru_cache(maxsize=100_000)(self._started)
        self._ordinary = functools.lru_cache(maxsize=100_000)(self._undropped)

    def words(self, text: str) -> tuple[str, ...]:
        """The words of a text as the merges see them; cut once, sampled often."""
        backend, text = self.tokenizer.backend, well_formed(text)
        normal = backend.normalizer.normalize_str(text) if backend.normalizer is not None else text
        if backend.pre_tokenizer is None:
            return (normal,) if normal else ()
        return tuple(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal))

    def sample(self, text: str | Sequence[str], random: Random) -> list[int]:
        """One spelling, as ids without bos and eos, that decodes to the same text as the ordinary encoding.

        Args:
            text: a text, or its `words`.
            random: drawn from once for each word, and about once for each merge after the first dropped one.
        """
        words = self.words(text) if isinstance(text, str) else text
        return [each for word in words for each in self._spelled(word, random)]

    def __reduce__(self) -> tuple[object, ...]:
        return functools.partial(SubwordSampler, dropout=self.dropout), (self.tokenizer,)

    def _started(self, word: str) -> tuple[list[int], list[Rule]]:
        """The ids of the single characters and a heap of the merges that they allow."""
        symbols = [*word[:-1], word[-1] + self._suffix]
        found = [self._ids.get(symbol, self._unknown) for symbol in symbols]
        ids = [each for each in found if each is not None]
        heap = [rule for place in range(len(ids) - 1) if (rule := self._rule(ids[place], ids[place + 1], place))]
        heapq.heapify(heap)
        return ids, heap

    def _rule(self, left: int, right: int, place: int) -> Rule | None:
        known = self._rules.get((left, right))
        return Rule(known[0], place, left, right, known[1]) if known else None

    def _spelled(self, word: str, random: Random) -> list[int]:
        ordinary, merges = self._ordinary(word)
        survive = self._until_drop(random)
        return ordinary if survive >= merges else self._merged(word, survive, random)

    def _undropped(self, word: str) -> tuple[list[int], int]:
        """The ordinary spelling and the number of merges that lead to it."""
        ids = self._merged(word, len(word), None)
        return ids, len(self._start(word)[0]) - len(ids)

    def _until_drop(self, random: Random) -> float:
        """How many merges in a row are kept before one is dropped: at least n with probability (1 - dropout)^n."""
        if not self.dropout:
            return math.inf
        return 0 if self.dropout == 1 else math.log(1 - random.random()) // math.log1p(-self.dropout)

    def _merged(self, word: str, survive: float, random: Random | None) -> list[int]:
        """The spelling when the first `survive` merges are kept, the next is dropped and those after it are drawn."""
        start, possible = self._start(word)
        chain, heap, dropped = _Chain(start), possible.copy(), list[Rule]()
        while heap:
            rule = heapq.heappop(heap)
            if not chain.has(rule):
                continue
            survive -= 1
            if survive == -1 or (survive < -1 and random is not None and random.random() < self.dropout):
                dropped.append(rule)
                continue
            for place, left, right in chain.merge(rule):
                new = self._rule(left, right, place)
                if new:
                    heapq.heappush(heap, new)
            while dropped:  # a dropped merge may be drawn again at the next step
                heapq.heappush(heap, dropped.pop())
        return chain.ids()


class _Chain:
    """The symbols of a word, where two neighbours can be joined without moving the others."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = [
            *ids,
            -1,
        ]  # a last place that nothing joins; -1 also marks a place that was joined to its left
        self._next = list(range(1, len(ids) + 2))
        self._previous = list(range(-1, len(ids)))

    def has(self, rule: Rule) -> bool:
        """Whether the two symbols of the rule still stand at its place."""
        ids = self._ids
        return ids[rule.place] == rule.left and ids[self._next[rule.place]] == rule.right

    def merge(self, rule: Rule) -> list[tuple[int, int, int]]:
        """Join the two symbols; the places and symbols of the pairs that come into being."""
        ids, place, gone = self._ids, rule.place, self._next[rule.place]
        ids[place], ids[gone] = rule.joined, -1
        after = self._next[gone]
        self._next[place], self._previous[after] = after, place
        before = self._previous[place]
        pairs = [(place, rule.joined, ids[after])]
        return [(before, ids[before], rule.joined), *pairs] if before >= 0 else pairs

    def ids(self) -> list[int]:
        return [each for each in self._ids if each >= 0]


def _plain_bpe(tokenizer: Tokenizer) -> dict[str, Any]:
    model: dict[str, Any] = json.loads(tokenizer.to_json())["model"]
    unusual = ("byte_fallback", "ignore_merges", "continuing_subword_prefix", "fuse_unk")
    if model["type"] != "BPE" or not model["merges"] or any(model.get(option) for option in unusual):
        raise TokenizerError("no plain BPE merges to drop", found=model["type"], expected="a byte_bpe or bpe tokenizer")
    return model


def _rules(model: dict[str, Any]) -> dict[tuple[int, int], tuple[int, int]]:
    """From a pair of ids to the rank of its merge and the id of the joined symbol."""
    ids, rules = model["vocab"], {}
    for rank, (left, right) in enumerate(model["merges"]):
        rules[ids[left], ids[right]] = rank, ids[left + right]
    return rules
