"""Associative recall: which value stood beside this key? (Ba et al., 2016, arXiv:1610.06258, section 4.1)."""

import torch

from clearhead.data.synthetic.base import IGNORED, TASKS, Samples, Task
from clearhead.data.synthetic.drawing import at_least, at_most, distinct, uniform, whole


@TASKS.register("recall")
class Recall(Task):
    """Pairs of key and value, then one of the keys again; its value is asked at that last token.

        tokens   k3 v1  k7 v4  k5 v1  k7        labels   -  -  -  -  -  -  v4

    Ids: 0 padding, 1 to `keys` the keys, then `values` values. The keys of an example differ, values may repeat.

    Args:
        pairs: how many are shown; the length is 2 * pairs + 1.
        keys: different keys there are, at least `pairs`.
        values: different values there are.
        distance: how far back the asked pair lies, 1 = the last pair; None = any, equally likely.
    """

    best = 0.0

    def __init__(self, *, pairs: int = 8, keys: int = 16, values: int = 16, distance: int | None = None) -> None:
        at_least(1, pairs=pairs, values=values, distance=distance)
        at_least(pairs, keys=keys)
        at_most(pairs, "the number of pairs", distance=distance)
        self.pairs, self.keys, self.values, self.distance = pairs, keys, values, distance
        self.vocab = 1 + keys + values

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        numbers = uniform(count, 1 + self.pairs + self.keys, generator)
        asked = whole(numbers[:, :1], self.pairs)  # (batch, 1)
        values = 1 + self.keys + whole(numbers[:, 1 : 1 + self.pairs], self.values)  # (batch, pairs)
        keys = 1 + distinct(numbers[:, 1 + self.pairs :], self.pairs)  # (batch, pairs)
        if self.distance is not None:
            asked = torch.full_like(asked, self.pairs - self.distance)
        shown = torch.stack((keys, values), dim=2).flatten(1)  # (batch, 2 * pairs)
        tokens = torch.cat((shown, keys.gather(1, asked)), dim=1)
        labels = torch.full_like(tokens, IGNORED)
        labels[:, -1:] = values.gather(1, asked)
        return Samples(tokens, labels)
