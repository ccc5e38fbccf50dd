"""Single tokens, each by itself (Devlin et al., 2018, arXiv:1810.04805)."""

import numpy as np

from clearhead.data.corruption.base import CHOICES, Lexicon, Rate, by_rank
from clearhead.data.store import Ids


@CHOICES.register("token")
class TokenChooser:
    """Each token that is not special is chosen with probability `rate`, independently of the others."""

    def __init__(self, *, rate: Rate = 0.15) -> None:
        self.rate = rate

    def __call__(self, ids: Ids, lexicon: Lexicon, random: np.random.Generator) -> Ids:
        return by_rank((random.random(len(ids)) < self.rate) & ~lexicon.special[ids])
