"""Attention within a window, with a few global tokens (Beltagy et al., 2020, arXiv:2004.05150, "Longformer")."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from clearhead.model.attention.base import ATTENTIONS
from clearhead.model.attention.dot import Dot
from clearhead.model.mask import AttentionMask, cut
from clearhead.model.position.base import Relation


@ATTENTIONS.register("local")
class Local(Dot):
    """Dot-product attention between slots less than `window` apart, computed in blocks: cost grows with the length.

    The paper's own projections for global tokens are left out: one set serves all tokens.

    Args:
        window: slots on a side that a query sees, its own included.
        global_tokens: so many first tokens of each sequence see all and are seen by all.
    """

    crosses: ClassVar[bool] = False

    def __init__(
        self, heads: int, d_head: int, dropout: float, *, window: PositiveInt = 128, global_tokens: NonNegativeInt = 0
    ) -> None:
        super().__init__(heads, d_head, dropout)
        self.window, self.global_tokens = window, global_tokens

    def weights(self, query: Tensor, key: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        queries, keys = query.shape[2], key.shape[2]
        everywhere = range(queries), torch.arange(keys, device=key.device)
        seen = self._seen(*everywhere, queries, mask, self._global(mask, key))
        return self.softmax(query, key, AttentionMask(allowed=seen, added=mask.added), relation)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        is_global, mixed = self._global(mask, key), [query[:, :, :0]]
        for rows, columns in self._blocks(query, key, is_global):
            narrow = AttentionMask(
                allowed=self._seen(rows, columns, query.shape[2], mask, is_global),
                added=None if mask.added is None else cut(mask.added, rows, columns),
            )
            related = Relation(
                bias=None if relation.bias is None else cut(relation.bias, rows, columns),
                values=None if relation.values is None else relation.values[:, rows.start : rows.stop, columns],
            )
            block = query[:, :, rows.start : rows.stop]
            mixed.append(super().forward(block, key[:, :, columns], value[:, :, columns], narrow, related))
        return torch.cat(mixed, dim=2)

    def _blocks(self, query: Tensor, key: Tensor, is_global: Tensor) -> Iterator[tuple[range, Tensor]]:
        """Queries, and the keys that one of them may see: all for global ones, else the leading and the near keys."""
        queries, keys = query.shape[2], key.shape[2]
        slots, first = torch.arange(keys, device=key.device), keys - queries
        leading = int(((slots + 1) * is_global).max()) if self.global_tokens and keys else 0  # to the last global slot
        start = min(max(leading - first, 0), queries)
        if start:
            yield range(start), slots
        for row in range(start, queries, self.window):
            rows = range(row, min(row + self.window, queries))
            low, high = max(first + rows.start - self.window + 1, 0), first + rows.stop + self.window - 1
            yield rows, torch.cat([slots[: min(leading, low)], slots[low:high]])

    def _global(self, mask: AttentionMask, key: Tensor) -> Tensor:
        """Which slots hold global tokens, (batch or 1, keys) bool."""
        keys = key.shape[2]
        valid = torch.ones(1, keys, dtype=torch.bool, device=key.device) if mask.valid is None else mask.valid
        return valid & (valid.long().cumsum(dim=1) <= self.global_tokens)

    def _seen(self, rows: range, columns: Tensor, queries: int, mask: AttentionMask, is_global: Tensor) -> Tensor:
        """Which pairs may see each other, (batch or 1, 1 or heads, rows, columns) bool."""
        keys = is_global.shape[1]
        slots = torch.arange(rows.start, rows.stop, device=columns.device) + keys - queries  # (rows,)
        near = (slots[:, None] - columns).abs() < self.window
        near = near | is_global[:, None, columns] | is_global[:, slots, None]  # (batch or 1, rows, columns)
        drawn = mask.tile(rows, columns, queries, keys, columns.device)
        return near[:, None] if drawn is None else near[:, None] & drawn
