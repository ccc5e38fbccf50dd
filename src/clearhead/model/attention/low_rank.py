"""Attention over a few sums of keys (Wang et al., 2020, arXiv:2006.04768, "Linformer")."""

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from clearhead.core.errors import ModelError
from clearhead.model.attention.base import ATTENTIONS, Kernel, grouped, require_plain
from clearhead.model.dropout import Dropout
from clearhead.model.mask import AttentionMask
from clearhead.model.position.base import Relation


@ATTENTIONS.register("low_rank")
class LowRank(Kernel):
    """softmax(Q (E K)^T / sqrt(d_head)) F V: E and F turn up to `length` keys and values into `rank` of them.

    A sum of keys cannot be hidden from some queries only, so there are no masks but padding, and no decoder.

    Args:
        rank: sums of keys that a query sees.
        length: the most keys, columns of E and F, which all heads share.
    """

    products: ClassVar[bool] = False
    biases: ClassVar[bool] = False
    relates_values: ClassVar[bool] = False
    any_mask: ClassVar[bool] = False

    def __init__(
        self, heads: int, d_head: int, dropout: float, *, rank: PositiveInt = 64, length: PositiveInt = 512
    ) -> None:
        super().__init__(heads, d_head, dropout)
        self.scale = d_head**-0.5
        self.keys = nn.Parameter(torch.empty(rank, length))  # E
        self.values = nn.Parameter(torch.empty(rank, length))  # F
        self.dropout = Dropout(dropout)
        for each in (self.keys, self.values):
            nn.init.normal_(each, std=length**-0.5)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        weights: Tensor = self.dropout(self._over_sums(query, key, mask, relation))
        summed = self._columns(self.values, key, mask)[:, None] @ grouped(value, query.shape[1])
        return weights.to(value.dtype) @ summed  # (batch, heads, queries, d_head)

    def weights(self, query: Tensor, key: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        """With how much each value enters, (batch, heads, queries, keys); rows need not sum to 1."""
        weights = self._over_sums(query, key, mask, relation)
        return weights @ self._columns(self.values, key, mask)[:, None]

    def _over_sums(self, query: Tensor, key: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        """Weights of the sums of keys, (batch, heads, queries, rank); zeros for a text without tokens."""
        require_plain(self, mask, relation)
        summed = self._columns(self.keys, key, mask)[:, None] @ grouped(key, query.shape[1])
        weights = ((self.scale * query) @ summed.transpose(-1, -2)).softmax(dim=-1)  # (batch, heads, queries, rank)
        some = weights.new_ones(()) if mask.valid is None else mask.valid.any(dim=-1)[:, None, None, None]
        counted: Tensor = weights * some
        return counted

    def _columns(self, matrix: Tensor, key: Tensor, mask: AttentionMask) -> Tensor:
        """The columns of E or F that belong to the keys, counted over valid ones: (batch or 1, rank, keys)."""
        _, _, keys, _ = key.shape
        if keys > matrix.shape[1]:
            expected, remedy = f"at most {matrix.shape[1]}", "set model.attention.length"
            raise ModelError("low_rank has no columns for so many keys", found=keys, expected=expected, remedy=remedy)
        if mask.valid is None:
            return matrix[None, :, :keys].to(key.dtype)
        column = (mask.valid.long().cumsum(dim=1) - 1).clamp(min=0)  # (batch, keys)
        return (matrix.T[column] * mask.valid[..., None]).transpose(1, 2).to(key.dtype)
