"""Random orders of prediction (Yang et al., 2019, XLNet, arXiv:1906.08237, section 2.3)."""

import numpy as np

from clearhead.data.corruption.base import Lexicon
from clearhead.data.store import Ids


def drawn_order(ids: Ids, lexicon: Lexicon, share: float, random: np.random.Generator) -> Ids:
    """The place of each token in a random order of prediction, (length,).

    Only the last `share` of the order is predicted, at least one token: 0, 1, 2, ... are the ranks of those tokens. The
    others have rank -1: they are given from the start, as are special tokens.
    """
    ordinary = np.flatnonzero(~lexicon.special[ids])
    ranks = np.full(len(ids), -1, dtype=np.int64)
    count = min(len(ordinary), max(1, round(share * len(ordinary))))
    targets = random.permutation(ordinary)[:count]
    ranks[targets] = np.arange(count)
    return ranks
