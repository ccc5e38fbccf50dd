"""Masked language modelling: tokens restored from what stands on both sides (Devlin et al., 2018, arXiv:1810.04805).

The masks are drawn anew each time a text is read (Liu et al., 2019, RoBERTa, arXiv:1907.11692, section 4.1).
"""

from typing import Any

import numpy as np

from clearhead.core.registry import Choice, choice_of
from clearhead.data.corruption import CHOICES, Corrupted, Lexicon, Treatment
from clearhead.data.corruption.base import Share
from clearhead.data.readings import Pieces
from clearhead.data.store import Ids
from clearhead.data.text_batches import TextBatch, corrupted
from clearhead.model import Transformer
from clearhead.text import Tokenizer
from clearhead.train.objectives.base import OBJECTIVES, Collate, Loss, TextObjective
from clearhead.train.objectives.likelihood import counted, negative_log_likelihood, read_both_ways

Choosing = choice_of(CHOICES)
TOKENS = Choice(kind="token")


class Masking:
    """Chooses tokens and puts other things in their place.

    Args:
        choose: what is chosen: single tokens, whole words or spans, and how many.
        mask: share of the chosen ones that become the mask token.
        random: share of them that become a random token; the rest stays as it is.
    """

    def __init__(self, choose: Choice, mask: float, random: float) -> None:
        self.chooser, self.treat = CHOICES.build(choose), Treatment(mask, random)

    def __call__(self, ids: Ids, lexicon: Lexicon, random: np.random.Generator) -> Corrupted:
        """What the model sees, and which tokens it restores; at least one where there is any to choose."""
        groups = self.chooser(ids, lexicon, random)
        ordinary = np.flatnonzero(~lexicon.special[ids])
        if (groups < 0).all() and len(ordinary):
            groups[random.choice(ordinary)] = 0
        return self.treat(ids, groups, lexicon, random)

    def rows(
        self, rows: list[Pieces], lexicon: Lexicon, random: np.random.Generator
    ) -> tuple[list[Pieces], list[Pieces]]:
        """All pieces of a batch: what the model sees, and 1 where it restores."""
        done = [[self(each, lexicon, random) for each in pieces] for pieces in rows]
        seen = [[each.ids for each in pieces] for pieces in done]
        return seen, [[each.chosen.astype(np.int64) for each in pieces] for pieces in done]


@OBJECTIVES.register("masked")
class Masked(TextObjective):
    """-log p(token | the corrupted text) over the chosen tokens.

    Args:
        choose, mask, random: see `Masking`.
    """

    kinds = ("encoder-only",)
    heads = ("mlm", "lm")

    def __init__(
        self,
        *,
        choose: Choosing = TOKENS,  # type: ignore[valid-type]
        mask: Share = 0.8,
        random: Share = 0.1,
    ) -> None:
        self.masking = Masking(choose, mask, random)

    def collator(self, tokenizer: Tokenizer, width: int) -> Collate:
        lexicon, pad = Lexicon.of(tokenizer), tokenizer.need("pad")

        def collate(rows: Any, random: np.random.Generator) -> TextBatch:
            return corrupted(rows, *self.masking.rows(rows, lexicon, random), width, pad)

        return collate

    def __call__(self, model: Transformer, batch: TextBatch) -> Loss:
        hidden = counted(read_both_ways(model, batch), batch)  # (tokens, d_model)
        return Loss(negative_log_likelihood(model.head, hidden, counted(batch.labels, batch)), batch.tokens)
