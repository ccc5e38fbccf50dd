"""Exact attention in tiles, its memory linear in the length ("FlashAttention": Dao et al., 2022, arXiv:2205.14135).

Of each tile of queries and keys only running sums are kept; the backward pass computes the tile's weights again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.autograd.function import once_differentiable

from clearhead.model.attention.base import ATTENTIONS, grouped, pair_bias
from clearhead.model.attention.dot import Dot
from clearhead.model.mask import AttentionMask, cut
from clearhead.model.position.base import Relation


@ATTENTIONS.register("tiled")
class Tiled(Dot):
    """softmax(scale * Q K^T + bias) V as `dot` computes it, by our own tiles forward and backward.

    Args:
        block: queries and keys of a tile.
        scale: factor of the scores; None = 1 / sqrt(d_head).
    """

    relates_values: ClassVar[bool] = False
    drops: ClassVar[bool] = False

    def __init__(
        self, heads: int, d_head: int, dropout: float, *, block: PositiveInt = 128, scale: float | None = None
    ) -> None:
        super().__init__(heads, d_head, dropout, scale=scale)
        self.block = block

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        tiling = Tiling(mask, query.shape[2], key.shape[2], self.block, self.scale)
        key, value = grouped(key, query.shape[1]), grouped(value, query.shape[1])
        with torch.autocast(query.device.type, enabled=False):
            out: Tensor = TiledAttention.apply(  # type: ignore[no-untyped-call]
                query, key, value, pair_bias(mask, relation), tiling
            )
        return out


@dataclass(frozen=True, eq=False)
class Tiling:
    """How pairs are cut into tiles, and what holds for the pairs of a tile."""

    mask: AttentionMask
    queries: int
    keys: int
    block: int
    scale: float

    def rows(self) -> Iterator[range]:
        """Tiles of queries."""
        return (range(start, min(start + self.block, self.queries)) for start in range(0, self.queries, self.block))

    def columns(self, rows: range) -> Iterator[range]:
        """Tiles of keys that these queries may see; what the causal rule or the window hides as a whole is left out."""
        first, mask = self.keys - self.queries, self.mask
        stop = first + rows.stop if mask.causal and mask.prefix is None else self.keys
        low = 0 if mask.window is None else max(first + rows.start - mask.window + 1, 0)
        high = stop if mask.window is None else min(stop, first + rows.stop - 1 + mask.window)
        return (range(start, min(start + self.block, high)) for start in range(low, high, self.block))

    def scores(self, query: Tensor, key: Tensor, bias: Tensor | None, rows: range, columns: range) -> Tensor:
        """Scores of a tile from its queries and keys, -inf where hidden: (batch, heads, rows, columns)."""
        scores = self.scale * query @ key.transpose(-1, -2)
        if bias is not None:
            scores = scores + cut(bias, rows, columns)
        allowed = self.mask.tile(rows, columns, self.queries, self.keys, query.device)
        return scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)


class TiledAttention(torch.autograd.Function):
    """Forward: a running softmax over tiles of keys. Backward: the same tiles again, from the saved log-sums."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, tiling: Tiling) -> Tensor:
        out = torch.empty_like(query)
        log_sums = query.new_empty(query.shape[:3], dtype=_exact(query))  # (batch, heads, queries)
        for rows in tiling.rows():
            mixed, log_sums[:, :, rows.start : rows.stop] = _running(query, key, value, bias, tiling, rows)
            out[:, :, rows.start : rows.stop] = mixed
        ctx.tiling = tiling
        ctx.save_for_backward(query, key, value, bias, out, log_sums)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, out, log_sums = ctx.saved_tensors
        exact = _exact(query)
        by_query, by_key, by_value = (torch.zeros_like(each, dtype=exact) for each in (query, key, value))
        by_bias = torch.zeros_like(bias) if ctx.needs_input_grad[3] else None
        for rows in ctx.tiling.rows():
            q, g, o, total = (_part(each, rows).to(exact) for each in (query, gradient, out, log_sums))
            along = (g * o).sum(dim=-1, keepdim=True)  # what a softmax takes off each of its gradients
            total = total.masked_fill(total == -torch.inf, torch.inf)[..., None]  # no key: no weight
            for columns in ctx.tiling.columns(rows):
                k, v = _part(key, columns).to(exact), _part(value, columns).to(exact)
                weights = (ctx.tiling.scores(q, k, bias, rows, columns) - total).exp()
                by_score = weights * (g @ v.transpose(-1, -2) - along)  # (batch, heads, rows, columns)
                _part(by_value, columns).add_(weights.transpose(-1, -2) @ g)
                _part(by_query, rows).add_(by_score @ k, alpha=ctx.tiling.scale)
                _part(by_key, columns).add_(by_score.transpose(-1, -2) @ q, alpha=ctx.tiling.scale)
                if by_bias is not None:
                    part = cut(by_bias, rows, columns)
                    part.add_(by_score.sum_to_size(part.shape))
        return by_query.to(query.dtype), by_key.to(key.dtype), by_value.to(value.dtype), by_bias, None


def _running(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, tiling: Tiling, rows: range
) -> tuple[Tensor, Tensor]:
    """Mixed values of some queries and the logarithm of their softmax's denominator, one tile of keys after another."""
    q = _part(query, rows).to(_exact(query))
    mixed = torch.zeros_like(q)
    total = q.new_zeros(q.shape[:3])  # sum of exp(score - top)
    top = torch.full_like(total, -torch.inf)  # largest score so far
    for columns in tiling.columns(rows):
        k, v = _part(key, columns).to(q.dtype), _part(value, columns).to(q.dtype)
        scores = tiling.scores(q, k, bias, rows, columns)
        higher = torch.maximum(top, scores.amax(dim=-1))
        safe = higher.masked_fill(higher == -torch.inf, 0.0)  # -inf - -inf is not a number
        weights, shrink = (scores - safe[..., None]).exp(), (top - safe).exp()
        mixed = mixed * shrink[..., None] + weights @ v
        total, top = total * shrink + weights.sum(dim=-1), higher
    return mixed / total.masked_fill(total == 0, 1.0)[..., None], top + total.log()


def _part(states: Tensor, some: range) -> Tensor:
    """Some queries or keys of (batch, heads, length, ...), as a view."""
    return states[:, :, some.start : some.stop]


def _exact(states: Tensor) -> torch.dtype:
    return torch.promote_types(states.dtype, torch.float32)
