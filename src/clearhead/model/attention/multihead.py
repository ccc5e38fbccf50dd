"""Multi-head attention (Vaswani et al., 2017, section 3.2.2), with fewer key/value heads if wanted.

Grouped heads: Ainslie et al., 2023, arXiv:2305.13245; one key/value head: Shazeer, 2019, arXiv:1911.02150.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from clearhead.model.attention.base import Kernel
from clearhead.model.attention.projections import Projections
from clearhead.model.cache import LayerCache
from clearhead.model.forward_pass import Pass
from clearhead.model.mask import OPEN
from clearhead.model.position.base import UNRELATED, LayerPosition


class MultiHead(nn.Module):
    """What self- and cross-attention share: projections, a kernel, and W_O."""

    def __init__(self, projections: Projections, kernel: Kernel, *, bias: bool) -> None:
        super().__init__()
        sizes = projections.sizes
        self.projections = projections
        self.kernel = kernel
        self.output = nn.Linear(sizes.heads * sizes.d_head, sizes.d_model, bias=bias)

    def merge(self, mixed: Tensor) -> Tensor:
        """(batch, heads, length, d_head) -> (batch, length, d_model)."""
        merged: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return merged


class SelfAttention(MultiHead):
    """Queries, keys and values from the same sequence."""

    def __init__(self, projections: Projections, kernel: Kernel, position: LayerPosition, *, bias: bool) -> None:
        super().__init__(projections, kernel, bias=bias)
        self.position = position

    def forward(self, hidden: Tensor, now: Pass, cache: LayerCache) -> Tensor:
        """(batch, length, d_model) -> the same shape."""
        position, here = self.position, now.positions
        query, key, value = self.projections.all(hidden)
        turns = now.once(position.turns, here, query.dtype)
        query, key = position.rotate(query, turns), position.rotate(key, turns)
        key, value, there = cache.extend(key, value, here)
        mask = now.among(key.shape[2], now.once(position.bias, here, there))
        return self.merge(self.kernel(query, key, value, mask, position.relate(query, key, here, there)))


class CrossAttention(MultiHead):
    """Queries from the decoder, keys and values from the encoder's output."""

    def forward(self, hidden: Tensor, memory: "Memory", cache: LayerCache) -> Tensor:
        """Hidden states (batch * beams, length, d_model) -> the same shape.

        The beams of one source read one copy of its keys and values: for attention without order among queries
        they are simply more queries.
        """
        key, value = cache.memory(lambda: self.projections.keys_values(memory.hidden))
        queries = hidden.reshape(key.shape[0], -1, hidden.shape[-1])  # (batch, beams * length, d_model)
        mixed = self.kernel(self.projections.queries(queries), key, value, OPEN.padded(memory.valid), UNRELATED)
        return self.merge(mixed).reshape(hidden.shape)


@dataclass(frozen=True, eq=False)
class Memory:
    """The encoder's output: what cross-attention reads."""

    hidden: Tensor  # (batch, source, d_model)
    valid: Tensor | None = None  # (batch, source) bool, False for padding; None = all valid
