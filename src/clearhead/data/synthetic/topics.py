"""Labelled sentences of topics that share attributes, with the exact posterior of Bayes' rule."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from clearhead.core.errors import ConfigError
from clearhead.data.synthetic.base import TASKS, Samples, Task
from clearhead.data.synthetic.drawing import at_least, at_most, cumulated, entropy, pick, uniform, whole

START, FIRST = 1, 3
OWN, COMMON = 5, 30  # words of each attribute; words of all sentences


@TASKS.register("topics")
class Topics(Task):
    """Topics are the cells of a square: each has a row and a column, which are its two attributes.

    A word tells the row with probability clarity / 2, the column as often, and otherwise nothing; so a topic is
    certain once a word of each kind was read, half known after one, and in short sentences often a guess. The order
    of the words says nothing. Topic k has row k // side and column k % side.

    Ids: 0 padding, 1 start of every sentence, 2 is never drawn (free for a mask), then 30 common words, 5 words for
    each row, 5 for each column.

    Attributes:
        prior: (classes,) float64.
        table: (classes, vocab) float64, how often each word occurs in a sentence of each topic.

    Args:
        classes: topics.
        imbalance: how many times more frequent the first topic is than the last; between them Zipf's law. 1 = all
            equally frequent, for instance in a balanced test of a model that learned from a skewed set.
        clarity: share of the words that tell something.
        shortest, longest: words of a sentence; all numbers between are equally likely.
    """

    def __init__(
        self,
        *,
        classes: int = 10,
        imbalance: float = 1.0,
        clarity: float = 0.4,
        shortest: int = 4,
        longest: int = 12,
    ) -> None:
        at_least(2, classes=classes)
        at_least(1, shortest=shortest, longest=longest)
        at_most(longest, "the longest", shortest=shortest)
        if imbalance < 1 or not 0 <= clarity <= 1:
            expected = "an imbalance of at least 1, a clarity between 0 and 1"
            raise ConfigError("no such topics", found=f"{imbalance}, {clarity}", expected=expected)
        self.classes, self.shortest, self.longest, self.clarity = classes, shortest, longest, clarity
        self.side = math.ceil(math.sqrt(classes))
        self.vocab = FIRST + COMMON + 2 * self.side * OWN
        self.prior = zipf(classes, imbalance)
        self.table = self._table()
        self.best = self._best()
        self._topics, self._words = cumulated(self.prior[None]), cumulated(self.table)

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        numbers = uniform(count, 2 + self.longest, generator)
        labels = pick(self._topics, len(self.prior), torch.zeros(count, dtype=torch.int64), numbers[:, 0])
        lengths = self.shortest + whole(numbers[:, 1:2], self.longest - self.shortest + 1)  # (batch, 1)
        rows = labels[:, None].expand(-1, self.longest)
        words = pick(self._words, self.vocab, rows, numbers[:, 2:])  # (batch, longest)
        words = words.where(torch.arange(self.longest) < lengths, 0)
        tokens = functional.pad(words, (1, 0), value=START)
        return Samples(tokens, labels, tokens != 0)

    def posterior(self, tokens: Tensor) -> Tensor:
        """(batch, length) → (batch, classes) float64: how likely each topic is after reading; other ids say nothing."""
        logs = self.table.log()
        logs[:, :FIRST] = 0
        return (self.prior.log() + logs.T[tokens].sum(dim=1)).softmax(-1)

    def _table(self) -> Tensor:
        table = torch.zeros(len(self.prior), self.vocab, dtype=torch.float64)
        table[:, FIRST : FIRST + COMMON] = (1 - self.clarity) * zipf(COMMON, COMMON)
        for topic, own in enumerate(table[:, FIRST + COMMON :].view(-1, 2, self.side, OWN)):
            own[0, topic // self.side] = own[1, topic % self.side] = self.clarity / 2 / OWN
        return table

    def _best(self) -> float:
        """The entropy of the topic given the sentence: by what was told, averaged over the lengths."""
        square = functional.pad(self.prior, (0, self.side**2 - len(self.prior))).view(self.side, self.side)
        given_row, given_column = (entropy(square).sum() - entropy(square.sum(axis)) for axis in (1, 0))
        lengths = torch.arange(self.shortest, self.longest + 1, dtype=torch.float64)
        nothing = (1 - self.clarity) ** lengths
        one = (1 - self.clarity / 2) ** lengths - nothing  # words of one kind and none of the other
        return float((one * (given_row + given_column) + nothing * entropy(self.prior)).mean())


def zipf(count: int, ratio: float) -> Tensor:
    """(count,) float64: probabilities that fall as a power of the rank, the first `ratio` times the last."""
    ranks = torch.arange(1, count + 1, dtype=torch.float64)
    weights = ranks ** (-math.log(ratio) / math.log(count)) if count > 1 else ranks
    return weights / weights.sum()
