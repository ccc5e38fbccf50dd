"""The doorway of the attention family: queries, keys, values, mask and relation in; mixed values out."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from clearhead.core.errors import ModelError
from clearhead.core.registry import Registry
from clearhead.model.dropout import Dropout
from clearhead.model.mask import AttentionMask
from clearhead.model.position.base import Relation


class Kernel(nn.Module):
    """One way to mix values by queries and keys. Wiring: heads, d_head, dropout rate of the weights.

    What a kernel can do is told by its class, so that a recipe can refuse a part that does not go with it.
    """

    products: ClassVar[bool] = True  # scores are inner products: rotated queries and keys tell their distance
    biases: ClassVar[bool] = True  # adds Relation.bias to the score of each pair
    relates_values: ClassVar[bool] = True  # adds Relation.values to the value of each pair
    drops: ClassVar[bool] = True  # drops attention weights
    any_mask: ClassVar[bool] = True  # obeys every mask; False = only padding
    crosses: ClassVar[bool] = True  # queries may come from another sequence than keys

    def __init__(self, heads: int, d_head: int, dropout: float) -> None:
        super().__init__()

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        """Mix the values.

        Args:
            query: (batch, heads, queries, d_head).
            key, value: (batch, kv_heads, keys, d_head); kv_heads divides heads.
            mask: which keys each query sees.
            relation: what the position scheme says about each pair.

        Returns:
            (batch, heads, queries, d_head); the zero vector for a query that sees no key.
        """
        raise NotImplementedError

    def weights(self, query: Tensor, key: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        """The attention weights (batch, heads, queries, keys) of the same inputs, without dropout."""
        raise NotImplementedError


class Scored(Kernel):
    """A kernel that scores each pair: softmax(scores + bias) mixes the values. A subclass gives `scores`."""

    def __init__(self, heads: int, d_head: int, dropout: float) -> None:
        super().__init__(heads, d_head, dropout)
        self.dropout = Dropout(dropout)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """(batch, heads, queries, d_head) and (batch, heads, keys, d_head) -> (batch, heads, queries, keys)."""
        raise NotImplementedError

    def weights(self, query: Tensor, key: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        return self.softmax(query, key, mask, relation)

    def softmax(self, query: Tensor, key: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        """The weights by this mask and relation as they are, (batch, heads, queries, keys)."""
        scores = self.scores(query, grouped(key, query.shape[1]))
        bias = pair_bias(mask, relation)
        return masked_softmax(scores if bias is None else scores + bias, mask)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        weights: Tensor = self.dropout(self.softmax(query, key, mask, relation))
        return mixed(weights, grouped(value, query.shape[1]), relation)


ATTENTIONS: Registry[Kernel] = Registry("attention")


def grouped(states: Tensor, heads: int) -> Tensor:
    """Repeat each key/value head for its group of query heads: (batch, kv_heads, ...) -> (batch, heads, ...)."""
    return states if states.shape[1] == heads else states.repeat_interleave(heads // states.shape[1], dim=1)


def pair_bias(mask: AttentionMask, relation: Relation) -> Tensor | None:
    """What is added to the scores: by the position scheme, by the mask, or by both."""
    if mask.added is None or relation.bias is None:
        return relation.bias if mask.added is None else mask.added
    return relation.bias + mask.added


def require_plain(kernel: Kernel, mask: AttentionMask, relation: Relation) -> None:
    """Refuse what a kernel without a score for each pair would have to leave out."""
    if pair_bias(mask, relation) is not None or relation.values is not None:
        remedy = "choose another attention, or a position scheme that does not speak about pairs"
        raise ModelError(f"{type(kernel).__name__} attention has no score for each pair to add to", remedy=remedy)
    if not kernel.any_mask and (mask.causal or not mask.only_padding_and_causal):
        remedy = "choose another attention"
        raise ModelError(f"{type(kernel).__name__} attention can hide nothing but padding", remedy=remedy)


def masked_softmax(scores: Tensor, mask: AttentionMask) -> Tensor:
    """Softmax over the visible keys; a row that sees none becomes zeros instead of NaN, its gradient too."""
    allowed = mask.dense(scores.shape[-2], scores.shape[-1], scores.device)
    if allowed is None:
        return scores.softmax(dim=-1)
    sees = allowed.any(dim=-1, keepdim=True)
    weights = (scores + scores.new_zeros(()).masked_fill(~allowed & sees, -torch.inf)).softmax(dim=-1)
    return weights if not torch.compiler.is_exporting() and bool(sees.all()) else weights * sees


def mixed(weights: Tensor, value: Tensor, relation: Relation) -> Tensor:
    """Weights (batch, heads, queries, keys) and values (batch, heads, keys, d_head) -> weighted sums of values."""
    weights = weights.to(value.dtype)  # a bias in float32 lifts the weights above bfloat16
    sums = weights @ value  # (batch, heads, queries, d_head)
    if relation.values is None:
        return sums
    related = relation.values.to(value.dtype).expand(value.shape[0], -1, -1, -1)  # (batch, queries, keys, d_head)
    return sums + torch.einsum("bhqk,bqkd->bhqd", weights, related)
