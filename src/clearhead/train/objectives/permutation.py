"""Permutation language modelling with two streams (Yang et al., 2019, XLNet, arXiv:1906.08237).

content stream   what stands at each place, seen by itself and by what comes later in the order
query stream     a place without its token, which sees what comes earlier in the order and says what stands there

Both streams pass the same blocks as one sequence, content before queries, under a mask in which nothing sees a query
but itself. XLNet's queries begin with a vector of their own; ours begin with the embedding of the mask token.
"""

from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from clearhead.data.corruption import Lexicon, drawn_order
from clearhead.data.readings import Pieces
from clearhead.data.text_batches import PermutationBatch, borders, laid
from clearhead.model import AttentionMask, Transformer
from clearhead.text import Tokenizer
from clearhead.train.objectives.base import OBJECTIVES, Collate, Loss, TextObjective
from clearhead.train.objectives.likelihood import negative_log_likelihood


@OBJECTIVES.register("permutation")
class Permutation(TextObjective):
    """-log p(token | tokens earlier in a random order), over the last share of the order.

    Args:
        share: of the tokens that are predicted (XLNet: 1 / 6).
    """

    kinds = ("encoder-only",)
    heads = ("lm", "mlm")

    def __init__(self, *, share: Annotated[float, Field(gt=0.0, le=1.0)] = 1 / 6) -> None:
        self.share = share
        self.mask = 0

    def collator(self, tokenizer: Tokenizer, width: int) -> Collate:
        lexicon, pad = Lexicon.of(tokenizer), tokenizer.need("pad")
        self.mask = lexicon.mask

        def collate(rows: Any, random: np.random.Generator) -> PermutationBatch:
            ranks = [[drawn_order(each, lexicon, self.share, random) for each in pieces] for pieces in rows]
            return permutation_batch(rows, ranks, width, pad=pad)

        return collate

    def __call__(self, model: Transformer, batch: PermutationBatch) -> Loss:
        assert batch.places is not None
        assert batch.wanted is not None
        hidden = two_streams(model, batch, self.mask)[batch.wanted]  # (tokens, d_model)
        labels = batch.labels.gather(1, batch.places)[batch.wanted]
        return Loss(negative_log_likelihood(model.head, hidden, labels), batch.tokens)


def two_streams(model: Transformer, batch: PermutationBatch, mask: int) -> Tensor:
    """Hidden states of the query stream, (batch, targets, d_model)."""
    assert batch.places is not None
    width = batch.ids.shape[1]
    ids = torch.cat([batch.ids, torch.full_like(batch.places, mask)], dim=1)  # (batch, length + targets)
    positions = batch.positions
    if positions is None:
        positions = torch.arange(width, device=ids.device).expand(len(ids), -1)
    positions = torch.cat([positions, positions.gather(1, batch.places)], dim=1)
    rules = AttentionMask(allowed=stream_mask(batch)).padded(_both_streams(model, batch))
    return model.encode(ids, mask=rules, positions=positions).hidden[:, width:]


def _both_streams(model: Transformer, batch: PermutationBatch) -> Tensor | None:
    """(batch, length + targets) bool, False for padding in either stream, for a norm that looks at all tokens."""
    if not model.config.norm_across_tokens:
        return None
    assert batch.wanted is not None
    content = torch.ones_like(batch.counted) if batch.segments is None else batch.segments > 0
    return torch.cat([content, batch.wanted], dim=1)


def stream_mask(batch: PermutationBatch) -> Tensor:
    """What each place of the two streams sees, (batch, 1, length + targets, length + targets) bool."""
    assert batch.ranks is not None
    assert batch.places is not None
    segments = torch.ones_like(batch.ids) if batch.segments is None else batch.segments
    ranks, owners = (torch.cat([each, each.gather(1, batch.places)], dim=1) for each in (batch.ranks, segments))
    length, total = batch.ids.shape[1], ranks.shape[1]
    query = torch.arange(total, device=ranks.device) >= length  # (total,)
    later, earlier = ranks[:, :, None], ranks[:, None, :]  # of the one that looks, of the one that is seen
    seen = (earlier < later) | ((earlier == later) & ~query[:, None])  # (batch, total, total)
    seen &= (owners[:, :, None] == owners[:, None, :]) & ~query
    return (seen | torch.diag(query))[:, None]


def permutation_batch(rows: list[Pieces], ranks: list[Pieces], width: int, *, pad: int) -> PermutationBatch:
    """Rows with the rank of each token in its piece's order; -1 = not predicted."""
    segments, positions = borders(rows, width)
    table, ids = laid(ranks, width, -1), laid(rows, width, pad)
    targets = table >= 0
    places = [np.flatnonzero(each) for each in targets.numpy()]
    most = max(1, *(len(each) for each in places))
    return PermutationBatch(
        tokens=int(targets.sum()),
        ids=ids,
        labels=ids,
        counted=targets,
        segments=segments,
        positions=positions,
        ranks=table,
        places=laid([[each] for each in places], most, 0),
        wanted=laid([[np.ones_like(each)] for each in places], most, 0).bool(),
    )
