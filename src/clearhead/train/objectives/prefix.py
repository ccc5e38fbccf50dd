"""Prefix language modelling: a beginning that is read in both directions, then one token after another.

Source: Raffel et al., 2020, T5, arXiv:1910.10683, section 3.2.1.
"""

from typing import Any

import numpy as np
from torch import Tensor

from clearhead.data.readings import Pieces
from clearhead.data.store import Ids
from clearhead.data.text_batches import PrefixBatch, laid, shifted
from clearhead.model import AttentionMask, Transformer
from clearhead.text import Tokenizer
from clearhead.train.objectives.base import OBJECTIVES, Collate, Loss, TextObjective
from clearhead.train.objectives.likelihood import counted, negative_log_likelihood, padding


@OBJECTIVES.register("prefix")
class Prefix(TextObjective):
    """-log p(rest | prefix) for a prefix of random length in each piece; tokens of the prefix do not count."""

    shift = 1

    def collator(self, tokenizer: Tokenizer, width: int) -> Collate:
        pad = tokenizer.need("pad")

        def collate(rows: Any, random: np.random.Generator) -> PrefixBatch:
            flags = [[_prefix(len(each) - 1, random) for each in pieces] for pieces in rows]
            return prefix_batch(rows, flags, width, pad)

        return collate

    def __call__(self, model: Transformer, batch: PrefixBatch) -> Loss:
        assert batch.prefix is not None
        mask = AttentionMask(segments=batch.segments, allowed=visible(batch.prefix))
        valid = padding(model, batch)
        hidden = model.decode(batch.ids, valid=valid, mask=mask, positions=batch.positions)  # (batch, length, d_model)
        value = negative_log_likelihood(model.head, counted(hidden, batch), counted(batch.labels, batch))
        return Loss(value, batch.tokens)


def prefix_batch(rows: list[Pieces], flags: list[Pieces], width: int, pad: int) -> PrefixBatch:
    """Rows and, for each token that is read, 1 inside the prefix and 0 after it."""
    batch, prefix = shifted(rows, width, pad), laid(flags, width, 0).bool()
    inner = laid([[np.append(each[1:], 0) for each in pieces] for pieces in flags], width, 0).bool()
    counts = batch.counted & ~inner  # a label inside the prefix has been read already
    return PrefixBatch(int(counts.sum()), batch.ids, batch.labels, counts, batch.segments, batch.positions, prefix)


def visible(prefix: Tensor) -> Tensor:
    """(batch, length) bool -> (batch, 1, queries, keys): keys in a prefix, and keys that are not later."""
    length = prefix.shape[1]
    earlier = prefix.new_ones(length, length).tril()  # (queries, keys)
    return earlier | prefix[:, None, None, :]


def _prefix(length: int, random: np.random.Generator) -> Ids:
    """1 for the first 1, ..., `length` tokens, each number with the same probability."""
    return (np.arange(length) < random.integers(1, length + 1)).astype(np.int64)
