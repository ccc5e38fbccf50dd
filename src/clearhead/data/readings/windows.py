"""Windows into one endless text: what stands before a window is not seen, document ends are tokens like others."""

from collections.abc import Iterator

import numpy as np
from pydantic import PositiveInt

from clearhead.core.errors import DataError
from clearhead.data.readings.base import READINGS, Frame, Pieces, Reading
from clearhead.data.token_corpus import TokenCorpus


@READINGS.register("windows")
class Windows(Reading):
    """Windows that begin at random tokens; an epoch has as many as would fill the corpus once.

    Validation reads windows side by side, so that each token but the first is predicted once.
    """

    def __init__(self, corpus: TokenCorpus, frame: Frame, *, length: PositiveInt = 256) -> None:
        super().__init__(corpus, frame, length=length)
        if corpus.tokens < self._span:
            raise DataError(
                "this text is shorter than one window",
                found=f"{corpus.tokens:,} tokens",
                expected=f"{self._span:,}",
                remedy="lower data.reading.length",
            )

    @property
    def _span(self) -> int:
        return self.length - self.frame.room + self.frame.shift

    def epoch(self, random: np.random.Generator) -> Iterator[int]:
        count = max(1, self.corpus.tokens // self.length)
        for _ in range(count):
            yield int(random.integers(self.corpus.tokens - self._span + 1))

    def once(self) -> Iterator[int]:
        yield from range(0, self.corpus.tokens - self.frame.shift, self.length - self.frame.room)

    def row(self, plan: int) -> Pieces:
        return [self.corpus.stretch(plan, min(plan + self._span, self.corpus.tokens))]
