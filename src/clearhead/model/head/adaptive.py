"""Adaptive softmax (Grave et al., 2017, arXiv:1609.04309): frequent words first, rare ones by clusters.

Ids must be sorted by frequency, most frequent first.
"""

from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.model.embedding.adaptive import Cutoffs, Factor, edges
from clearhead.model.head.base import HEADS, Head, Surroundings, new_matrix


@HEADS.register("adaptive")
class AdaptiveSoftmax(Head):
    """log p(word) = log p(its cluster) + log p(word | cluster); a cluster sees factor times fewer features.

    What it returns are log-probabilities, not the scores of one linear map: `linear` is False.

    Args:
        cutoffs: ids at which the short list and the clusters end; None = after a tenth and half of the vocabulary.
        factor: how much narrower each cluster is.
    """

    linear: ClassVar[bool] = False

    def __init__(self, around: Surroundings, *, cutoffs: Cutoffs | None = None, factor: Factor = 4) -> None:
        super().__init__(around)
        self.edges = edges(around.vocab, cutoffs)
        clusters = list(pairwise(self.edges))[1:]
        widths = [max(1, around.d_model // factor ** (index + 1)) for index in range(len(clusters))]
        self.finish(new_matrix(self.edges[1] + len(clusters), around.d_model), bias=False)
        self.narrow = nn.ModuleList(nn.Linear(around.d_model, width, bias=False) for width in widths)
        rows = [end - start for start, end in clusters]
        self.words = nn.ModuleList(nn.Linear(*each, bias=False) for each in zip(widths, rows, strict=True))

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """(..., d_model) -> log-probabilities (..., vocab)."""
        first = F.linear(hidden, self.matrix).log_softmax(dim=-1)  # (..., short list + clusters)
        short = self.edges[1]
        parts = [first[..., :short]]
        for index, (narrow, words) in enumerate(zip(self.narrow, self.words, strict=True)):
            parts.append(words(narrow(hidden)).log_softmax(dim=-1) + first[..., short + index, None])
        return torch.cat(parts, dim=-1)
