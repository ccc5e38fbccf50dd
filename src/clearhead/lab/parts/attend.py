"""One attention by itself, of the package's own parts: no stream around it, no residual, no positions."""

from typing import Any

import torch
from torch import Tensor

from clearhead.core.registry import Choice
from clearhead.model import OPEN, AttentionMask
from clearhead.model.attention import PROJECTIONS, HeadSizes
from clearhead.model.attention.dot import Dot
from clearhead.model.attention.multihead import MultiHead
from clearhead.model.position.base import UNRELATED


class Attend(MultiHead):
    """Project to heads, mix, join, W_O; weights drawn from the seed.

    Args:
        width: of what it reads and returns.
        heads: of them; each is d_head wide, by default width / heads.
        projections: a choice of the family, such as `separate`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        d_head: int | None = None,
        projections: Any = "fused",
        bias: bool = False,
        seed: int = 0,
    ) -> None:
        sizes = HeadSizes(d_model=width, heads=heads, kv_heads=heads, d_head=d_head or width // heads)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            choice = Choice.model_validate(projections)
            super().__init__(PROJECTIONS.build(choice, sizes, bias), Dot(heads, sizes.d_head, 0.0), bias=bias)

    def forward(self, hidden: Tensor, mask: AttentionMask = OPEN) -> Tensor:
        """(batch, length, width) -> the same shape."""
        return self.merge(self.kernel(*self.projections.all(hidden), mask, UNRELATED))

    def weights(self, hidden: Tensor, mask: AttentionMask = OPEN) -> Tensor:
        """(batch, length, width) -> attention weights, (batch, heads, length, length)."""
        query, key, _ = self.projections.all(hidden)
        return self.kernel.weights(query, key, mask, UNRELATED)
