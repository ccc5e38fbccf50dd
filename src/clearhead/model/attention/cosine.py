"""Cosine attention: queries and keys of length one (Henry et al., 2020, arXiv:2010.04245)."""

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor, nn

from clearhead.model.attention.base import ATTENTIONS, Scored


@ATTENTIONS.register("cosine")
class Cosine(Scored):
    """A score is the cosine between query and key times a trainable factor of each head.

    Args:
        scale: the factor before training; scores lie between minus and plus this.
    """

    def __init__(self, heads: int, d_head: int, dropout: float, *, scale: PositiveFloat = 10.0) -> None:
        super().__init__(heads, d_head, dropout)
        self.scale = nn.Parameter(torch.full((heads,), scale))

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        cosines = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-1, -2)
        return self.scale[:, None, None] * cosines  # (batch, heads, queries, keys)
