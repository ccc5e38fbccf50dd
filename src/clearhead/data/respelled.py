"""A store whose sequences are spelled anew in each epoch, for subword regularisation."""

import functools
import random
from collections.abc import Callable

import numpy as np

from clearhead.core.seeds import derive
from clearhead.data.store import Ids, Store

Spell = Callable[[list[Ids], random.Random], list[Ids]]  # other ids for the same texts, drawn at random

BLOCK = 1_024  # consecutive sequences that are spelled together
HELD = 32  # blocks that are kept at a time: the pool that is read and the one before it


class Respelled:
    """Reads like a store; the spelling depends on the seed and on the place of a sequence alone.

    Lengths are those of the new spelling, so batches are cut to what a model really reads.

    Args:
        store: the sequences as they were written.
        spell: draws other ids for the same texts.
        seed: of the draws, another one for each epoch and side.
    """

    def __init__(self, store: Store, spell: Spell, seed: int) -> None:
        self.store, self.spell, self.seed = store, spell, seed
        self._block = functools.lru_cache(maxsize=HELD)(self._spelled)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Ids:
        """The ids of one sequence, counted from 0."""
        return self._block(index // BLOCK)[index % BLOCK]

    def lengths(self, start: int, stop: int) -> Ids:
        """Lengths in tokens of sequences start, ..., stop - 1."""
        return np.array([len(self[index]) for index in range(start, stop)], dtype=np.int64)

    def _spelled(self, block: int) -> list[Ids]:
        rows = range(block * BLOCK, min(len(self), (block + 1) * BLOCK))
        return self.spell([self.store[row] for row in rows], random.Random(derive(self.seed, block)))
