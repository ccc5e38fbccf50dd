"""Fill in the middle: a text rearranged so that a causal model learns to write between two parts.

Source: Bavarian et al., 2022, arXiv:2207.14255, section 3, at the level of tokens.
"""

from typing import NamedTuple

import numpy as np

from clearhead.data.store import Ids


class Sentinels(NamedTuple):
    """Ids of the special tokens that announce the parts."""

    prefix: int
    suffix: int
    middle: int


def infilled(ids: Ids, sentinels: Sentinels, random: np.random.Generator, *, suffix_first: bool) -> Ids:
    """Cut a text at two random places and move the middle to the end; the text grows by three tokens.

    prefix, suffix, middle:  <pre> prefix <suf> suffix <mid> middle
    suffix first:            <pre> <suf> suffix <mid> prefix middle

    Args:
        ids: the text without bos and eos.
        sentinels: of the parts.
        random: draws the places, each of the len(ids) + 1 with equal probability.
        suffix_first: the form in which prefix and middle stand side by side.
    """
    first, second = sorted(random.integers(0, len(ids) + 1, size=2).tolist())
    prefix, middle, suffix = ids[:first], ids[first:second], ids[second:]
    pre, suf, mid = (np.array([each]) for each in sentinels)
    order = [pre, suf, suffix, mid, prefix, middle] if suffix_first else [pre, prefix, suf, suffix, mid, middle]
    return np.concatenate(order).astype(np.int64)
