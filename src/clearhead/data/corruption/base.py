"""Masking: which tokens a model has to restore, and what it sees in their place.

Choosing is a family (single tokens, whole words, spans); the treatment of what is chosen is the same for all.
"""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from clearhead.core.errors import ConfigError
from clearhead.core.registry import Registry
from clearhead.data.store import Ids
from clearhead.text import Tokenizer

BLANKS = "ĠĊĉč▁"  # how byte-level and unigram vocabularies write a space, a line end, a tab, a carriage return

Flags = npt.NDArray[np.bool_]
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True, eq=False)
class Lexicon:
    """What masking knows of a vocabulary."""

    mask: int  # id of the mask token
    words: Ids  # ids that a random replacement is drawn from: all but the special tokens
    special: Flags  # (vocab,) True for special tokens, which are never chosen
    starts: Flags  # (vocab,) True for tokens that begin a word

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Lexicon":
        """Read it off a tokenizer; a TokenizerError where there is no mask token."""
        special = np.zeros(tokenizer.vocab_size, dtype=bool)
        special[list(tokenizer.special_ids)] = True
        return cls(tokenizer.need("mask"), np.flatnonzero(~special), special, word_starts(tokenizer))


def word_starts(tokenizer: Tokenizer) -> Flags:
    """Which tokens begin a word, by how vocabularies write it: `##` goes on, `Ġ` and `▁` begin, else each begins.

    With `Ġ` and `▁` a token that begins with a punctuation mark begins a word too.
    """
    tokens = tokenizer.vocabulary()
    starts = np.ones(tokenizer.vocab_size, dtype=bool)
    if any(each.startswith("##") for each in tokens):
        inside = [index for token, index in tokens.items() if token.startswith("##") and token != "##"]
    elif any(each.startswith(("Ġ", "▁")) for each in tokens):
        inside = [index for token, index in tokens.items() if token[:1].isalnum() and token[0] not in BLANKS]
    else:
        inside = []
    starts[inside] = False
    return starts


class Chooser(Protocol):
    """Chooses what is to be restored."""

    def __call__(self, ids: Ids, lexicon: Lexicon, random: np.random.Generator) -> Ids:
        """A number for each token, (length,): -1 = left alone; tokens with the same number are treated alike."""


CHOICES: Registry[Chooser] = Registry("masking")


class Corrupted(NamedTuple):
    """What the model sees, and where it has to say what stood there."""

    ids: Ids  # (length,)
    chosen: Flags  # (length,)


class Treatment:
    """What becomes of a chosen token: the mask token, a random word, or it stays (BERT: 80, 10 and 10 %).

    Args:
        mask: share that becomes the mask token.
        random: share that becomes a random token, none of the special ones; the rest stays as it is.
    """

    def __init__(self, mask: float = 0.8, random: float = 0.1) -> None:
        if mask + random > 1 + 1e-9:
            raise ConfigError("shares of masked and random tokens exceed 1", found=f"{mask:g} + {random:g}")
        self.mask, self.random = mask, random

    def __call__(self, ids: Ids, groups: Ids, lexicon: Lexicon, random: np.random.Generator) -> Corrupted:
        """Treat the tokens of each group alike; random words are drawn for each token."""
        chosen = groups >= 0
        draws = random.random(int(groups.max()) + 1 if chosen.any() else 0)[groups[chosen]]  # one for each group
        words = random.choice(lexicon.words, size=len(draws))
        seen = np.where(draws < self.mask + self.random, words, ids[chosen])
        changed = ids.copy()
        changed[chosen] = np.where(draws < self.mask, lexicon.mask, seen)
        return Corrupted(changed, chosen)


def by_rank(values: npt.NDArray[Any]) -> Ids:
    """The flat numbers of True values in order: 0, 1, 2, ... where `values` is True, -1 elsewhere."""
    return np.where(values, np.cumsum(values) - 1, -1)
