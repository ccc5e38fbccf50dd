"""Multi-head attention (Vaswani et al., 2017, section 3.2.2), with fewer key/value heads if wanted.

Grouped heads: Ainslie et al., 2023, arXiv:2305.13245; one key/value head: Shazeer, 2019, arXiv:1911.02150.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.model.attention.base import Kernel
from clearhead.model.cache import KeyValue, LayerCache
from clearhead.model.mask import OPEN, AttentionMask
from clearhead.model.position.base import Position


@dataclass(frozen=True, kw_only=True)
class HeadSizes:
    """How a width is cut into heads."""

    d_model: int
    heads: int  # of the queries
    kv_heads: int  # of keys and values; divides heads
    d_head: int

    @property
    def rows(self) -> list[int]:
        """Output features of the projections to queries, keys and values."""
        return [self.heads * self.d_head, self.kv_heads * self.d_head, self.kv_heads * self.d_head]


class Projections(nn.Module):
    """W_Q, W_K and W_V as row blocks of one matrix, in that order, as torch's in_proj_weight."""

    def __init__(self, sizes: HeadSizes, *, bias: bool) -> None:
        super().__init__()
        self.sizes = sizes
        self.weight = nn.Parameter(torch.empty(sum(sizes.rows), sizes.d_model))  # (q + k + v features, d_model)
        self.bias = nn.Parameter(torch.zeros(sum(sizes.rows))) if bias else None
        nn.init.xavier_uniform_(self.weight)

    def all(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, length, d_model) -> queries, keys and values, each (batch, its heads, length, d_head)."""
        query, key, value = torch.split(F.linear(hidden, self.weight, self.bias), self.sizes.rows, dim=-1)
        return self._heads(query), self._heads(key), self._heads(value)

    def queries(self, hidden: Tensor) -> Tensor:
        """(batch, length, d_model) -> (batch, heads, length, d_head)."""
        end = self.sizes.rows[0]
        return self._heads(F.linear(hidden, self.weight[:end], None if self.bias is None else self.bias[:end]))

    def keys_values(self, hidden: Tensor) -> KeyValue:
        """(batch, length, d_model) -> keys and values, each (batch, kv_heads, length, d_head)."""
        start = self.sizes.rows[0]
        both = F.linear(hidden, self.weight[start:], None if self.bias is None else self.bias[start:])
        key, value = torch.split(both, self.sizes.rows[1:], dim=-1)
        return self._heads(key), self._heads(value)

    def _heads(self, states: Tensor) -> Tensor:
        batch, length, features = states.shape
        heads = states.view(batch, length, features // self.sizes.d_head, self.sizes.d_head)
        return heads.transpose(1, 2)  # (batch, heads, length, d_head)


class MultiHead(nn.Module):
    """What self- and cross-attention share: projections, a kernel, and W_O."""

    def __init__(self, sizes: HeadSizes, kernel: Kernel, *, bias: bool) -> None:
        super().__init__()
        self.projections = Projections(sizes, bias=bias)
        self.kernel = kernel
        self.output = nn.Linear(sizes.heads * sizes.d_head, sizes.d_model, bias=bias)

    def merge(self, mixed: Tensor) -> Tensor:
        """(batch, heads, length, d_head) -> (batch, length, d_model)."""
        merged: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return merged


class SelfAttention(MultiHead):
    """Queries, keys and values from the same sequence."""

    def __init__(self, sizes: HeadSizes, kernel: Kernel, position: Position, *, bias: bool) -> None:
        super().__init__(sizes, kernel, bias=bias)
        self.position = (position,)  # in a tuple: the stack owns the module, its parameters are counted there

    def forward(self, hidden: Tensor, positions: Tensor, mask: AttentionMask, cache: LayerCache) -> Tensor:
        """Hidden states (batch, length, d_model), positions (batch or 1, length) -> (batch, length, d_model)."""
        (position,) = self.position
        query, key, value = self.projections.all(hidden)
        query, key = position.rotate(query, positions), position.rotate(key, positions)
        key, value, key_positions = cache.extend(key, value, positions)
        return self.merge(self.kernel(query, key, value, mask, position.bias(positions, key_positions)))


class CrossAttention(MultiHead):
    """Queries from the decoder, keys and values from the encoder's output."""

    def forward(self, hidden: Tensor, memory: "Memory", cache: LayerCache) -> Tensor:
        """Hidden states (batch * beams, length, d_model) -> the same shape.

        The beams of one source read one copy of its keys and values: for attention without order among queries
        they are simply more queries.
        """
        key, value = cache.memory(lambda: self.projections.keys_values(memory.hidden))
        queries = hidden.reshape(key.shape[0], -1, hidden.shape[-1])  # (batch, beams * length, d_model)
        mixed = self.kernel(self.projections.queries(queries), key, value, OPEN.padded(memory.valid), None)
        return self.merge(mixed).reshape(hidden.shape)


@dataclass(frozen=True, eq=False)
class Memory:
    """The encoder's output: what cross-attention reads."""

    hidden: Tensor  # (batch, source, d_model)
    valid: Tensor | None = None  # (batch, source) bool, False for padding; None = all valid
