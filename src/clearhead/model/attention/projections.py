"""From the stream to queries, keys and values: W_Q, W_K and W_V (Vaswani et al., 2017, section 3.2.2)."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.core.registry import Registry
from clearhead.model.cache import KeyValue


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
    """The doorway of the family. Wiring: sizes, whether there are biases."""

    def __init__(self, sizes: HeadSizes, bias: bool) -> None:  # noqa: FBT001 (wiring)
        super().__init__()
        self.sizes = sizes

    def all(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, length, d_model) -> queries, keys and values, each (batch, its heads, length, d_head)."""
        return self.queries(hidden), *self.keys_values(hidden)

    def queries(self, hidden: Tensor) -> Tensor:
        """(batch, length, d_model) -> (batch, heads, length, d_head)."""
        raise NotImplementedError

    def keys_values(self, hidden: Tensor) -> KeyValue:
        """(batch, length, d_model) -> keys and values, each (batch, kv_heads, length, d_head)."""
        raise NotImplementedError

    def matrices(self) -> dict[str, Tensor]:
        """W_Q, W_K and W_V that it has, as `query`, `key` and `value`: views of its parameters, (features, d_model)."""
        return {}

    def split(self, states: Tensor) -> Tensor:
        """(batch, length, heads * d_head) -> (batch, heads, length, d_head)."""
        batch, length, features = states.shape
        return states.view(batch, length, features // self.sizes.d_head, self.sizes.d_head).transpose(1, 2)


LONG = 128  # tokens


def _is_read_often(hidden: Tensor) -> bool:
    """True where attention reads each key so often that keys must stand side by side (docs/log.md): a product each."""
    return hidden.device.type == "cpu" and hidden.shape[1] >= LONG and not torch.is_grad_enabled()


PROJECTIONS: Registry[Projections] = Registry("projections")


@PROJECTIONS.register("fused")
class Fused(Projections):
    """W_Q, W_K and W_V as row blocks of one matrix, in that order, as torch's in_proj_weight: one product."""

    def __init__(self, sizes: HeadSizes, bias: bool) -> None:  # noqa: FBT001 (wiring)
        super().__init__(sizes, bias)
        self.weight = nn.Parameter(torch.empty(sum(sizes.rows), sizes.d_model))  # (q + k + v features, d_model)
        self.bias = nn.Parameter(torch.zeros(sum(sizes.rows))) if bias else None
        nn.init.xavier_uniform_(self.weight)

    def matrices(self) -> dict[str, Tensor]:
        return dict(zip(("query", "key", "value"), torch.split(self.weight, self.sizes.rows), strict=True))

    def all(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self._products(hidden, 0)
        return query, key, value

    def queries(self, hidden: Tensor) -> Tensor:
        return self.split(self.product(hidden, 0, self.sizes.rows[0]))

    def keys_values(self, hidden: Tensor) -> KeyValue:
        key, value = self._products(hidden, 1)
        return key, value

    def product(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """(batch, length, d_model) times these rows of the matrix -> (batch, length, stop - start)."""
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        if stop - start < len(weight):
            weight, bias = weight[start:stop], None if bias is None else bias[start:stop]
        return F.linear(hidden, weight, bias)

    def _products(self, hidden: Tensor, first: int) -> list[Tensor]:
        """The outputs of the row blocks from `first` on, each (batch, its heads, length, d_head)."""
        rows, start = self.sizes.rows[first:], sum(self.sizes.rows[:first])
        if not _is_read_often(hidden):
            together = self.product(hidden, start, start + sum(rows))
            return [self.split(each) for each in torch.split(together, rows, dim=-1)]
        ends = list(accumulate(rows, initial=start))
        return [self.split(self.product(hidden, *each)) for each in pairwise(ends)]
