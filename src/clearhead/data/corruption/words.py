"""Whole words: all tokens of a word or none of them (Cui et al., 2019, arXiv:1906.08101)."""

import numpy as np

from clearhead.data.corruption.base import CHOICES, Lexicon, Rate, by_rank
from clearhead.data.store import Ids


@CHOICES.register("word")
class WordChooser:
    """Each word is chosen with probability `rate`, independently; each of its tokens is then treated by itself."""

    def __init__(self, *, rate: Rate = 0.15) -> None:
        self.rate = rate

    def __call__(self, ids: Ids, lexicon: Lexicon, random: np.random.Generator) -> Ids:
        words = word_numbers(ids, lexicon)
        chosen = random.random(len(ids)) < self.rate  # one draw for each word; there are no more words than tokens
        return by_rank((words >= 0) & chosen[words])


def word_numbers(ids: Ids, lexicon: Lexicon) -> Ids:
    """The number of the word that each token belongs to, (length,); -1 for special tokens."""
    special = lexicon.special[ids]
    after_special = np.concatenate([[True], special[:-1]])
    begins = (lexicon.starts[ids] | after_special) & ~special
    return np.where(special, -1, np.cumsum(begins) - 1)
