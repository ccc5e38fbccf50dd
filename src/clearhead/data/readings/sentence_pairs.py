"""Two stretches of text, of which the second follows the first or comes from elsewhere.

Source: the pretraining data of BERT (Devlin et al., 2018, arXiv:1810.04805, appendix A.2). One sentence a line.
"""

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field, PositiveInt

from clearhead.core.errors import DataError
from clearhead.data.corpora import Document
from clearhead.data.readings.base import READINGS, Frame, Reading
from clearhead.data.store import Ids
from clearhead.data.token_corpus import TokenCorpus, Unit

Share = Annotated[float, Field(ge=0.0, le=1.0)]
SPECIAL = 3  # cls, and a sep after each part


class PairPlan(NamedTuple):
    """Sentences as half-open ranges of their numbers in the corpus, and whether the second part follows the first."""

    first: tuple[int, int]
    second: tuple[int, int]
    follows: bool


class SentencePair(NamedTuple):
    """Two parts without special tokens, together short enough for a row."""

    first: Ids
    second: Ids
    follows: bool


@READINGS.register("sentence_pairs")
class SentencePairs(Reading):
    """Pairs of neighbouring stretches of a document; in a share of them the second is a stretch of another one.

    Args:
        length: tokens of a row, the three special ones included.
        other: share of pairs whose second part comes from elsewhere.
        short: share of pairs made for a random shorter length, so that the model knows short texts too.
    """

    close = False

    @staticmethod
    def units(document: Document) -> list[Unit]:
        """Each line that is not blank is a sequence; an empty sequence ends the document."""
        lines = [each for each in document.text.split("\n") if each and not each.isspace()]
        return [(line, 1) for line in lines] + ([("", 1)] if document.last else [])

    def __init__(
        self, corpus: TokenCorpus, frame: Frame, *, length: PositiveInt = 128, other: Share = 0.5, short: Share = 0.1
    ) -> None:
        super().__init__(corpus, frame, length=length)
        self.other, self.short = other, short
        self.room = length - SPECIAL
        if self.room < 2:
            raise DataError("a row of this length holds no two sentences", found=f"length {length}")
        self.documents = self._documents()
        if not self.documents:
            remedy = "write one sentence a line and a document of at least two lines"
            raise DataError("no document with two sentences", remedy=remedy)

    def epoch(self, random: np.random.Generator) -> Iterator[PairPlan]:
        plans = [plan for number in range(len(self.documents)) for plan in self._pairs(number, random)]
        for index in random.permutation(len(plans)):
            yield plans[index]

    def once(self) -> Iterator[PairPlan]:
        yield from self.epoch(np.random.default_rng(0))

    def row(self, plan: PairPlan) -> SentencePair:
        return SentencePair(*_fitted(self._text(plan.first), self._text(plan.second), self.room), plan.follows)

    def _documents(self) -> list[tuple[int, int]]:
        """Ranges of sentence numbers of documents with at least two sentences."""
        spans = self.corpus.spans(0, len(self.corpus))
        borders = np.flatnonzero(spans[:, 0] == spans[:, 1]).tolist()
        starts = [0, *(each + 1 for each in borders)]
        return [(start, stop) for start, stop in zip(starts, borders, strict=False) if stop - start > 1]

    def _pairs(self, number: int, random: np.random.Generator) -> Iterator[PairPlan]:
        """Cut one document into pairs; sentences that give way to another document's begin the next pair."""
        place, stop = self.documents[number]
        lengths = np.diff(self.corpus.spans(place, stop), axis=1)[:, 0]
        offset = place
        while place < stop:
            target = int(random.integers(2, self.room + 1)) if random.random() < self.short else self.room
            filled = np.cumsum(lengths[place - offset :])
            end = min(stop, place + 1 + int(np.searchsorted(filled, target)))
            middle = place + 1 if end - place < 3 else int(random.integers(place + 1, end))
            if end - place > 1 and random.random() >= self.other:
                yield PairPlan((place, middle), (middle, end), follows=True)
                place = end
            elif len(self.documents) > 1:
                needed = target - int(lengths[place - offset : middle - offset].sum())
                yield PairPlan((place, middle), self._elsewhere(number, needed, random), follows=False)
                place = middle
            else:
                place = end

    def _elsewhere(self, number: int, needed: int, random: np.random.Generator) -> tuple[int, int]:
        """A stretch of another document, of about so many tokens if it has them."""
        other = int(random.integers(len(self.documents) - 1))
        first, stop = self.documents[other + (other >= number)]
        start = int(random.integers(first, stop))
        filled = np.cumsum(np.diff(self.corpus.spans(start, stop), axis=1)[:, 0])
        return start, min(stop, start + 1 + int(np.searchsorted(filled, needed)))

    def _text(self, sentences: tuple[int, int]) -> Ids:
        spans = self.corpus.spans(*sentences)
        return self.corpus.stretch(int(spans[0, 0]), int(spans[-1, 1]))


def _fitted(first: Ids, second: Ids, room: int) -> tuple[Ids, Ids]:
    """Shorten the longer part from its outer end until both fit, each keeping at least half of the room it needs."""
    excess = max(0, len(first) + len(second) - room)
    longer, shorter = max(len(first), len(second)), min(len(first), len(second))
    alone = min(excess, longer - shorter)  # taken from the longer one; the rest is shared evenly
    cut_first = (alone if len(first) >= len(second) else 0) + (excess - alone + 1) // 2
    return first[cut_first:], second[: len(second) - (excess - cut_first)]
