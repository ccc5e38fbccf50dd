"""Fill in the middle: a causal model that learns to write between two parts.

Source: Bavarian et al., 2022, arXiv:2207.14255.
"""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from clearhead.data.corruption import Sentinels, infilled
from clearhead.data.store import Ids
from clearhead.data.text_batches import TextBatch, shifted
from clearhead.text import Tokenizer
from clearhead.train.objectives.base import OBJECTIVES, Collate
from clearhead.train.objectives.causal import Causal

Share = Annotated[float, Field(ge=0.0, le=1.0)]


@OBJECTIVES.register("fill_in_the_middle")
class FillInTheMiddle(Causal):
    """The causal objective on pieces of which a share is rearranged: prefix, suffix, then the middle.

    The tokenizer needs the three special tokens: `extra_tokens: [<fim_prefix>, <fim_suffix>, <fim_middle>]`.

    Args:
        share: of the pieces that are rearranged.
        suffix_first: share of them in which the suffix stands before the prefix.
        prefix, suffix, middle: the special tokens that announce the parts.
    """

    room = 3
    likelihood = False  # of a rearranged text

    def __init__(
        self,
        *,
        share: Share = 0.5,
        suffix_first: Share = 0.5,
        prefix: str = "<fim_prefix>",
        suffix: str = "<fim_suffix>",
        middle: str = "<fim_middle>",
    ) -> None:
        self.share, self.suffix_first = share, suffix_first
        self.names = (prefix, suffix, middle)

    def collator(self, tokenizer: Tokenizer, width: int) -> Collate:
        pad, ends = tokenizer.need("pad"), (tokenizer.need("bos"), tokenizer.need("eos"))
        sentinels = Sentinels(*map(tokenizer.token_id, self.names))

        def changed(piece: Ids, random: np.random.Generator) -> Ids:
            if random.random() >= self.share:
                return piece
            start, stop = int(piece[0] == ends[0]), len(piece) - int(piece[-1] == ends[1])
            moved = infilled(
                piece[start:stop], sentinels, random, suffix_first=bool(random.random() < self.suffix_first)
            )
            return np.concatenate([piece[:start], moved, piece[stop:]])

        def collate(rows: Any, random: np.random.Generator) -> TextBatch:
            return shifted([[changed(each, random) for each in pieces] for pieces in rows], width, pad)

        return collate
