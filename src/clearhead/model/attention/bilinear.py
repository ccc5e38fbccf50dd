"""Bilinear scores, Luong's "general" (Luong et al., 2015, arXiv:1508.04025, section 3.1), in several heads."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from clearhead.model.attention.base import ATTENTIONS, Scored


@ATTENTIONS.register("bilinear")
class Bilinear(Scored):
    """A score is query . M key / sqrt(d_head), with one matrix M for each head that begins as the identity."""

    products: ClassVar[bool] = False  # M stands between the two rotations

    def __init__(self, heads: int, d_head: int, dropout: float) -> None:
        super().__init__(heads, d_head, dropout)
        self.scale = d_head**-0.5
        self.matrix = nn.Parameter(torch.eye(d_head).repeat(heads, 1, 1))  # (heads, d_head, d_head)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        mapped: Tensor = (self.scale * query) @ self.matrix.to(query.dtype)  # (batch, heads, queries, d_head)
        return mapped @ key.transpose(-1, -2)  # (batch, heads, queries, keys)
