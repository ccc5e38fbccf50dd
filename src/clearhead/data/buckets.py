"""The order of training: shuffled, seeded, sentences of similar length together, a token budget for each batch.

    rows of the corpus ─ blocks of 1,024 in random order ─ pools of 16 blocks, shuffled ─ sorted by width
      ─ cut to batches of at most `budget` padded tokens ─ batches of the pool in random order

Widths are lengths rounded up to a multiple of `STEP`. Batches then come in few shapes, for which kernels and memory are
ready from the last time, and there is less padding on all sides together: rows whose last side differs by a token or
two can be sorted by the sides before it.

The order is a function of seed and epoch, so a run can continue at any batch. Memory holds one pool.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clearhead.core.batching import cut
from clearhead.core.errors import DataError
from clearhead.core.seeds import derive, numpy_generator
from clearhead.data.respelled import BLOCK, Respelled, Spell
from clearhead.data.store import Store

Rows = npt.NDArray[np.int64]

POOL = 16  # blocks that are sorted by width together
STEP = 4  # tokens; what a batch is padded to a multiple of


@dataclass(frozen=True)
class Place:
    """How far a run has come in its data: `batch` batches of epoch `epoch` are done."""

    epoch: int = 0
    batch: int = 0


class Buckets:
    """Batches of row numbers, epoch after epoch, from parallel stores.

    Args:
        stores: one for each side; row N of one belongs to row N of the others.
        budget: padded tokens of the longer side in one batch; a longer row makes a batch of its own.
        seed: of the order.
        special: tokens that a batch adds to every sequence, for the budget.
        spells: how each side is spelled anew in every epoch; None = as it is stored. By default all are.

    Raises:
        DataError: the stores are empty or differ in their number of rows.
    """

    def __init__(
        self,
        stores: list[Store],
        *,
        budget: int,
        seed: int,
        special: int = 0,
        spells: Sequence[Spell | None] = (),
    ) -> None:
        counts = {len(each) for each in stores}
        if len(counts) != 1:
            raise DataError("the token stores are not parallel", found=f"{sorted(counts)} sequences")
        if counts == {0}:
            raise DataError("no sequence to learn from", remedy="check the data source and data.filter")
        self.stores, self.budget, self.seed, self.special = stores, budget, seed, special
        self.spells = spells or [None] * len(stores)
        self.sides = functools.lru_cache(maxsize=2)(self._sides)  # an update may end one epoch and begin the next

    def batches(self, start: Place = Place()) -> Iterator[tuple[Rows, Place]]:
        """Row numbers of each batch and the place after it, without end, from `start` on."""
        epoch, done = start.epoch, start.batch
        while True:
            for number, rows in enumerate(self.epoch(epoch), start=1):
                if number > done:
                    yield rows, Place(epoch, number)
            epoch, done = epoch + 1, 0

    def epoch(self, epoch: int) -> Iterator[Rows]:
        """The batches of one epoch; together they hold every row once."""
        random, sides = numpy_generator(self.seed, "order", epoch), self.sides(epoch)
        count = len(self.stores[0])
        blocks = random.permutation((count + BLOCK - 1) // BLOCK)
        for start in range(0, len(blocks), POOL):
            yield from self._pool(sides, blocks[start : start + POOL], random)

    def _sides(self, epoch: int) -> Sequence[Store | Respelled]:
        """What is read in an epoch, one for each side."""
        return [
            store if spell is None else Respelled(store, spell, derive(self.seed, "subwords", epoch, side))
            for side, (store, spell) in enumerate(zip(self.stores, self.spells, strict=True))
        ]

    def _pool(self, sides: Sequence[Store | Respelled], blocks: Rows, random: np.random.Generator) -> Iterator[Rows]:
        count = len(sides[0])
        spans = [(int(block) * BLOCK, min(count, (int(block) + 1) * BLOCK)) for block in blocks]
        rows = np.concatenate([np.arange(*span) for span in spans])
        lengths = np.stack([np.concatenate([each.lengths(*span) for span in spans]) for each in sides])
        widths = -(-(lengths + self.special) // STEP) * STEP
        ties = random.random(len(rows))
        order = np.lexsort((ties, *widths))  # by the last store's width, then by the ones before it, then at random
        longer = widths.max(axis=0)[order]
        batches = [rows[order[part]] for part in cut(longer.tolist(), self.budget)]
        for index in random.permutation(len(batches)):
            yield batches[index]
