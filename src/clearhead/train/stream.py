"""Collated batches without end, from any place of a run on."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from clearhead.core.processes import ALONE, World
from clearhead.core.seeds import derive
from clearhead.data.batches import TranslationBatch, translation_batch
from clearhead.data.buckets import Buckets, Place
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
    order = Buckets(stores, budget=recipe.train.batch_tokens, seed=derive(recipe.seed, "data"))
    spell = spelling(recipe, tokenizers)

    def collate(rows: Ids, after: Place) -> TranslationBatch:
        source, labels = spell([[store[int(row)] for row in rows] for store in stores], after)
        return translation_batch(source, labels, pad=pad, bos=bos, eos=eos)

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


def spelling(recipe: Recipe, tokenizers: Sequence[Tokenizer]) -> Callable[[list[list[Ids]], Place], list[list[Ids]]]:
    """How the ids of a batch are spelled: as they lie in the store, or anew with BPE-dropout.

    The draws depend on seed and place alone, so a resumed run draws the same spellings.
    """
    dropout = recipe.data.subword_dropout
    if not dropout:
        return lambda sides, place: sides
    samplers = [SubwordSampler(each, dropout=dropout) for each in tokenizers]

    def anew(sides: list[list[Ids]], place: Place) -> list[list[Ids]]:
        draw = random.Random(derive(recipe.seed, "subwords", place.epoch, place.batch))
        texts = [
            each.decode_batch([ids.tolist() for ids in side]) for each, side in zip(tokenizers, sides, strict=True)
        ]
        return [
            [np.asarray(sampler.sample(text, draw), dtype=np.int64) for text in side]
            for sampler, side in zip(samplers, texts, strict=True)
        ]

    return anew
