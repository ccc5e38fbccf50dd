"""What searches share that write one row for each text: what was written, and which texts are done."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.generate.searches.base import Hypothesis
from clearhead.generate.searches.config import SearchConfig
from clearhead.generate.searches.scores import divisor
from clearhead.generate.searches.writer import Writer


@dataclass
class Text:
    """A text that is being written; plain numbers, since tensors of one row each would cost more than they hold."""

    place: int  # among all texts
    limit: int  # tokens
    tokens: list[int]
    total: float = 0.0  # nats


class Texts:
    """The texts that are being written, and the results of those that are done.

    Args:
        limits: the most tokens of each text, end of sentence included.
        writer: with the texts; knows the token that ends one, and what each begins with.
    """

    def __init__(self, config: SearchConfig, limits: Sequence[int], writer: Writer) -> None:
        self.config, self.eos = config, writer.eos
        self.results: list[list[Hypothesis]] = [[] for _ in limits]
        self.going = [Text(place, limit, list(writer.forced)) for place, limit in enumerate(limits)]

    def write(self, tokens: Tensor, log_probabilities: Tensor) -> list[int]:
        """Write a token in each text, both (texts,); returns which of the texts go on.

        Raises:
            ModelError: a log-probability is not a number.
        """
        going = []
        for row, (text, token, nats) in enumerate(
            zip(self.going, tokens.tolist(), log_probabilities.tolist(), strict=True)
        ):
            text.tokens.append(token)
            text.total += nats
            if not math.isfinite(nats):
                raise ModelError("the model's logits are not numbers", remedy="look where training diverged")
            if token == self.eos or len(text.tokens) >= text.limit:
                self.results[text.place] = [self._hypothesis(text)]
            else:
                going.append(row)
        self.going = [self.going[row] for row in going]
        return going

    @property
    def totals(self) -> NDArray[np.float64]:
        """Log-probabilities of the texts that go on, nats."""
        return np.array([each.total for each in self.going])

    @property
    def room(self) -> int:
        """How many tokens may be written in every text."""
        return min(each.limit - len(each.tokens) for each in self.going)

    def write_more(self, tokens: NDArray[np.int64], totals: NDArray[np.float64]) -> None:
        """More tokens, of which none ends a text, (texts, more), and the log-probabilities of all, (texts,)."""
        for text, more, total in zip(self.going, tokens.tolist(), totals.tolist(), strict=True):
            text.tokens += more
            text.total = total

    def _hypothesis(self, text: Text) -> Hypothesis:
        score = text.total / divisor(self.config, len(text.tokens))
        kept = text.tokens[:-1] if text.tokens[-1] == self.eos else text.tokens
        return Hypothesis(kept, score, text.total)
