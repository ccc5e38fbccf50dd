"""Collated batches without end, from any place of a run on."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from clearhead.core.processes import ALONE, World
from clearhead.core.seeds import derive
from clearhead.data.batches import TranslationBatch, translation_batch
from clearhead.data.buckets import STEP, Buckets, Place
from clearhead.data.respelled import Spell
from clearhead.data.store import Ids, Store
from clearhead.text import SubwordSampler, Tokenizer
from clearhead.train.recipe import Recipe


def batch_stream(
    recipe: Recipe, stores: list[Store], tokenizers: Sequence[Tokenizer], place: Place, world: World = ALONE
) -> Iterator[tuple[list[TranslationBatch], Place]]:
    """This process's batches of one update after another, without end, and the place after each update.

    Args:
        tokenizers: of the source and of the target.
        world: its processes take turns at the batches.
    """
    target = tokenizers[-1]
    pad, bos, eos = (target.need(each) for each in ("pad", "bos", "eos"))
    step = math.gcd(STEP, recipe.model.length)  # padding makes no text longer than the model
    rates = (recipe.data.subword_dropout.source, recipe.data.subword_dropout.target)
    order = Buckets(
        stores,
        budget=recipe.train.batch_tokens,
        seed=derive(recipe.seed, "data"),
        special=1,  # eos
        spells=[_spelling(*each) for each in zip(tokenizers, rates, strict=True)],
    )

    def collate(rows: Ids, after: Place) -> TranslationBatch:
        source, labels = ([side[int(row)] for row in rows] for side in order.sides(after.epoch))
        return translation_batch(source, labels, pad=pad, bos=bos, eos=eos, step=step, rows=rows)

    return updates(order.batches(place), recipe.train.accumulate, world, collate)


Rows = TypeVar("Rows")
Batch = TypeVar("Batch")


def updates(
    order: Iterator[tuple[Rows, Place]], accumulate: int, world: World, collate: Callable[[Rows, Place], Batch]
) -> Iterator[tuple[list[Batch], Place]]:
    """This process's batches of one update after another, without end, and the place after each update.

    Args:
        order: what each batch is made of, and the place after it.
        accumulate: batches of an update.
        world: its processes take turns at the batches.
        collate: makes a batch; called for this process's own ones only.
    """
    while True:
        update = list(islice(order, accumulate))
        yield [collate(*each) for each in update[world.rank :: world.size]], update[-1][1]


def _spelling(tokenizer: Tokenizer, dropout: float) -> Spell | None:
    """How a side is spelled anew with BPE-dropout; None for the spelling that lies in the store."""
    if not dropout:
        return None
    sampler = SubwordSampler(tokenizer, dropout=dropout)

    def anew(sequences: list[Ids], draw: random.Random) -> list[Ids]:
        texts = tokenizer.decode_batch([ids.tolist() for ids in sequences])
        return [np.asarray(sampler.sample(text, draw), dtype=np.int64) for text in texts]

    return anew
