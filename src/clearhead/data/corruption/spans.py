"""Spans of words (Joshi et al., 2019, SpanBERT, arXiv:1907.10529, section 3.1)."""

from typing import Annotated

import numpy as np
from pydantic import Field, PositiveInt

from clearhead.data.corruption.base import CHOICES, Lexicon, Rate
from clearhead.data.corruption.words import word_numbers
from clearhead.data.store import Ids

TRIES = 20  # spans drawn for each span that is placed, before the rest of the budget is given up


@CHOICES.register("span")
class SpanChooser:
    """Spans of whole words until `rate` of the tokens are chosen; a span is masked, replaced or kept as a whole.

    Args:
        rate: share of the tokens.
        stop: a span ends after each word with this probability (a geometric distribution).
        longest: words of the longest span; longer draws are drawn anew.
    """

    def __init__(
        self,
        *,
        rate: Rate = 0.15,
        stop: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2,
        longest: PositiveInt = 10,
    ) -> None:
        self.rate, self.longest = rate, longest
        weights = stop * (1 - stop) ** np.arange(longest)  # of 1, 2, ... words
        self.weights = weights / weights.sum()

    def __call__(self, ids: Ids, lexicon: Lexicon, random: np.random.Generator) -> Ids:
        words = word_numbers(ids, lexicon)
        groups = np.full(len(ids), -1, dtype=np.int64)
        budget = int((words >= 0).sum() * self.rate + random.random())  # rounded so that its mean is exact
        number = tries = 0
        while budget > 0 and tries < TRIES * (number + 1):
            tries += 1
            span = self._span(words, random)
            if 0 < len(span) <= budget and (groups[span] < 0).all():
                groups[span] = number
                number, budget = number + 1, budget - len(span)
        return groups

    def _span(self, words: Ids, random: np.random.Generator) -> Ids:
        """Places of the tokens of a random stretch of words; special tokens end it."""
        count = int(words.max()) + 1
        size = 1 + int(random.choice(self.longest, p=self.weights))
        first = int(random.integers(count))
        places = np.flatnonzero((words >= first) & (words < first + size))
        return places[: 1 + _unbroken(places)]


def _unbroken(places: Ids) -> int:
    """How many steps of 1 the places begin with."""
    gaps = np.flatnonzero(np.diff(places) != 1)
    return int(gaps[0]) if len(gaps) else len(places) - 1
