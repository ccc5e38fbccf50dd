"""Additive attention (Bahdanau et al., 2015, arXiv:1409.0473, appendix A.1.2), in several heads."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from clearhead.model.attention.base import ATTENTIONS, Scored


@ATTENTIONS.register("additive")
class Additive(Scored):
    """A score is v . tanh(query + key), with one v for each head; W and U of the paper are W_Q and W_K.

    They are applied once to each token, not to each pair; the sums still take
    batch * heads * queries * keys * d_head numbers.
    """

    products: ClassVar[bool] = False

    def __init__(self, heads: int, d_head: int, dropout: float) -> None:
        super().__init__(heads, d_head, dropout)
        self.vector = nn.Parameter(torch.empty(heads, d_head))  # v of each head
        nn.init.normal_(self.vector, std=d_head**-0.5)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        sums = query[:, :, :, None] + key[:, :, None]  # (batch, heads, queries, keys, d_head)
        return torch.einsum("bhqkd,hd->bhqk", sums.tanh(), self.vector.to(query.dtype))


def score_each_pair(queries: Tensor, keys: Tensor, to_query: Tensor, to_key: Tensor, vector: Tensor) -> Tensor:
    """The same scores as the formula is often read: both projections are computed again for each pair, to be counted.

    Args:
        queries, keys: (batch, queries, d_model) and (batch, keys, d_model), before any projection.
        to_query, to_key: W and U, (d_head, d_model).
        vector: v, (d_head,).

    Returns:
        (batch, queries, keys).
    """
    pairs = queries.shape[0], queries.shape[1], keys.shape[1], -1
    query = queries[:, :, None].expand(pairs).flatten(0, 2) @ to_query.T  # (batch * queries * keys, d_head)
    key = keys[:, None].expand(pairs).flatten(0, 2) @ to_key.T  # (batch * queries * keys, d_head)
    return ((query + key).tanh() @ vector).view(pairs[:3])
