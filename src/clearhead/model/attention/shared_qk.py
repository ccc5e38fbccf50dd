"""One matrix for queries and keys (Kitaev et al., 2020, arXiv:2001.04451, section 2, "Reformer")."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.core.errors import ConfigError
from clearhead.model.attention.projections import PROJECTIONS, HeadSizes, Projections
from clearhead.model.cache import KeyValue


@PROJECTIONS.register("shared_qk")
class SharedQK(Projections):
    """W_Q is W_K. In self-attention a key is then its own query, so that each token suits itself best.

    Reformer hides a token from itself for that reason: `AttentionMask(own=False)`.

    Args:
        normalise: bring keys to a length of sqrt(d_head), so that a query's length only sharpens its weights.
    """

    def __init__(self, sizes: HeadSizes, bias: bool, *, normalise: bool = True) -> None:  # noqa: FBT001 (wiring)
        super().__init__(sizes, bias)
        require_equal_heads("shared_qk", sizes)
        self.normalise = normalise
        rows = sizes.rows[0] + sizes.rows[2]
        self.weight = nn.Parameter(torch.empty(rows, sizes.d_model))  # (query and key + value features, d_model)
        self.bias = nn.Parameter(torch.zeros(rows)) if bias else None
        nn.init.xavier_uniform_(self.weight)

    def matrices(self) -> dict[str, Tensor]:
        query, value = self.weight.chunk(2)
        return {"query": query, "value": value}

    def all(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, value = self._both(hidden)
        return query, self._as_keys(query), value

    def queries(self, hidden: Tensor) -> Tensor:
        return self._both(hidden)[0]

    def keys_values(self, hidden: Tensor) -> KeyValue:
        query, value = self._both(hidden)
        return self._as_keys(query), value

    def _both(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        query, value = F.linear(hidden, self.weight, self.bias).chunk(2, dim=-1)
        return self.split(query), self.split(value)

    def _as_keys(self, query: Tensor) -> Tensor:
        return query * (query.square().mean(dim=-1, keepdim=True) + 1e-6).rsqrt() if self.normalise else query


def require_equal_heads(name: str, sizes: HeadSizes) -> None:
    """Refuse fewer key/value heads than query heads where both come from the same numbers."""
    if sizes.kv_heads != sizes.heads:
        found = f"kv_heads {sizes.kv_heads}, heads {sizes.heads}"
        raise ConfigError(f"projections {name} make as many keys as queries", found=found, remedy="leave kv_heads out")
