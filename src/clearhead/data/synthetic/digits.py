"""Pictures of handwritten digits, 8 x 8 pixels, that come with scikit-learn (Alpaydin and Kaynak, 1998, UCI)."""

from functools import cache
from importlib import import_module
from typing import Literal

import torch
from torch import Tensor

from clearhead.core.seeds import numpy_generator
from clearhead.data.synthetic.base import TASKS, Samples, Task
from clearhead.data.synthetic.drawing import at_least, at_most, uniform, whole

SIDE = 8  # pixels
TEST = 360  # pictures of the test set
TRAIN = 1_797 - TEST


@TASKS.register("digits")
class Digits(Task):
    """1,797 pictures of the digits 0 to 9, drawn with replacement from one of two fixed sets.

    The tokens are patches, row by row: (batch, patches, patch * patch) float between 0 and 1, a patch row by row
    too. There are no ids, so `vocab` is 0; the best loss is not known.

    Args:
        patch: side of a patch in pixels; 1 makes each pixel a token, 8 the whole picture. None = pictures that are
            not cut, (batch, 1, 8, 8), as the embedding `patches` reads them.
        split: 1,437 pictures to train on, or the 360 others.
        pictures: use only so many of the split; fewer are the beginning of more.
    """

    vocab = 0
    classes = 10

    def __init__(
        self,
        *,
        patch: Literal[1, 2, 4, 8] | None = 2,
        split: Literal["train", "test"] = "train",
        pictures: int | None = None,
    ) -> None:
        at_least(1, pictures=pictures)
        at_most(TRAIN if split == "train" else TEST, "the pictures of the split", pictures=pictures)
        images, labels = digits()
        own = slice(TEST, None) if split == "train" else slice(TEST)
        chosen = images[own][:pictures].to(torch.get_default_dtype())
        self.tokens = chosen[:, None] if patch is None else patches(chosen, patch)
        self.labels = labels[own][:pictures]

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        chosen = whole(uniform(count, 1, generator)[:, 0], len(self.labels))
        return Samples(self.tokens[chosen], self.labels[chosen])

    def all(self) -> Samples:
        """Every picture of the split once, in a fixed order."""
        return Samples(self.tokens, self.labels)


@cache
def digits() -> tuple[Tensor, Tensor]:
    """All pictures, (1797, 8, 8) float64 between 0 and 1, and their labels, in a fixed mixed order."""
    bundled = import_module("sklearn.datasets").load_digits()  # imported here, as that takes seconds
    order = numpy_generator(0, "digits").permutation(len(bundled.target))
    return torch.from_numpy(bundled.images[order]).double() / 16, torch.from_numpy(bundled.target[order]).long()


def patches(images: Tensor, side: int) -> Tensor:
    """(batch, height, width) → (batch, patches, side * side)."""
    cut = images.unfold(1, side, side).unfold(2, side, side)  # (batch, rows, columns, side, side)
    return cut.flatten(3).flatten(1, 2)
