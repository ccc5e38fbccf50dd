"""Attention at linear cost by feature maps (Katharopoulos et al., 2020, arXiv:2006.16236)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

from clearhead.model.attention.base import ATTENTIONS, Kernel, grouped, require_plain
from clearhead.model.mask import AttentionMask
from clearhead.model.position.base import Relation


@ATTENTIONS.register("linear")
class Linear(Kernel):
    """Weights proportional to f(query) . f(key) with f = elu + 1, so that keys and values can be summed up first.

    Cost and memory grow with the length under padding and the causal rule; any other mask takes the quadratic
    order of the same products. Sums are taken in float32 at least.

    Args:
        chunk: queries that a causal pass takes at a time; 1 = the recurrent form, one token after another.
    """

    products: ClassVar[bool] = False
    biases: ClassVar[bool] = False
    relates_values: ClassVar[bool] = False
    drops: ClassVar[bool] = False
    alone: ClassVar[bool] = True  # the features of a key are the same whatever other keys there are

    def __init__(self, heads: int, d_head: int, dropout: float, *, chunk: PositiveInt = 64) -> None:
        super().__init__(heads, d_head, dropout)
        self.chunk = chunk

    def query_features(self, query: Tensor) -> Tensor:
        """(batch, heads, queries, d_head) -> positive (batch, heads, queries, features)."""
        return F.elu(query) + 1

    def key_features(self, key: Tensor) -> Tensor:
        """(batch, heads, keys, d_head) -> positive (batch, heads, keys, features)."""
        return F.elu(key) + 1

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        if not mask.only_padding_and_causal:
            return self.weights(query, key, mask, relation).to(value.dtype) @ grouped(value, query.shape[1])
        require_plain(self, mask, relation)
        left, right = self._features(query, key)
        if mask.valid is not None:
            right = right * mask.valid[:, None, :, None]
        value_and_one = _with_ones(grouped(value, query.shape[1]).to(right.dtype))
        if not mask.causal or query.shape[2] == 1:
            return _ratio(left @ _summed(right, value_and_one)).to(value.dtype)
        first = right.shape[2] - left.shape[2]  # keys before the first query
        before = _summed(right[:, :, :first], value_and_one[:, :, :first])
        sums, _ = self._causal(left, right[:, :, first:], value_and_one[:, :, first:], before)
        return _ratio(sums).to(value.dtype)

    def continued(
        self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, before: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Causal attention to new tokens and to what was before them, known by its sums alone.

        Args:
            query, key, value: of the new tokens.
            mask: its padding is that of all tokens so far.
            before: (batch, heads, features, d_head + 1), the sums of the tokens before; None = there are none.

        Returns:
            The mixed values of the new tokens, and the sums with them included.
        """
        left, right = self._features(query, key)
        if mask.valid is not None:
            right = right * mask.valid[:, None, -right.shape[2] :, None]
        value_and_one = _with_ones(grouped(value, query.shape[1]).to(right.dtype))
        start = _summed(right[:, :, :0], value_and_one[:, :, :0]) if before is None else before
        sums, after = self._causal(left, right, value_and_one, start)
        return _ratio(sums).to(value.dtype), after

    def weights(self, query: Tensor, key: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        require_plain(self, mask, relation)
        left, right = self._features(query, key)
        products = left @ right.transpose(-1, -2)  # (batch, heads, queries, keys)
        allowed = mask.dense(query.shape[2], key.shape[2], query.device)
        if allowed is not None:
            products = products * allowed
        return products / _not_zero(products.sum(dim=-1, keepdim=True))

    def _features(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        exact = torch.promote_types(query.dtype, torch.float32)
        return self.query_features(query.to(exact)), self.key_features(grouped(key, query.shape[1]).to(exact))

    def _causal(self, left: Tensor, right: Tensor, value: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over the keys up to each query: what was before a chunk as one matrix, within it pair by pair.

        Returns them, (batch, heads, queries, d_head + 1), and those over all keys, as one matrix.
        """
        sums = []
        for start in range(0, left.shape[2], self.chunk):
            now = slice(start, start + self.chunk)
            pairs = (left[:, :, now] @ right[:, :, now].transpose(-1, -2)).tril()  # (batch, heads, chunk, chunk)
            sums.append(left[:, :, now] @ state + pairs @ value[:, :, now])
            state = state + _summed(right[:, :, now], value[:, :, now])
        return torch.cat(sums, dim=2), state


def _summed(right: Tensor, value: Tensor) -> Tensor:
    """All keys and values as one matrix, (batch, heads, features, d_head + 1)."""
    return right.transpose(-1, -2) @ value


def _with_ones(value: Tensor) -> Tensor:
    """One more feature that counts: its weighted sum is the sum of the weights."""
    return F.pad(value, (0, 1), value=1.0)


def _ratio(sums: Tensor) -> Tensor:
    return sums[..., :-1] / _not_zero(sums[..., -1:])


def _not_zero(total: Tensor) -> Tensor:
    """Sums of weights; 1 where there is nothing to divide."""
    return torch.where(total == 0, torch.ones_like(total), total)
