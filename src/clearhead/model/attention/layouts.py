"""The same W_Q, W_K and W_V in the layouts of published checkpoints: plain functions on tensors.

All work on weights (rows, d_model) and on biases (rows,), where the rows are output features:

    matrices     W_Q (heads * d_head), W_K and W_V (kv_heads * d_head): Llama, BERT
    heads        the same, each as (heads, d_head, ...): the formulas of the paper
    fused        [W_Q; W_K; W_V], one after another: ours, torch's in_proj_weight, GPT-2's c_attn (which is transposed)
    interleaved  for each key/value head its group of query heads, its key and its value: GPT-NeoX, Falcon, BLOOM
"""

import torch
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.model.attention.projections import HeadSizes

Matrices = tuple[Tensor, Tensor, Tensor]  # of queries, keys and values


def to_heads(matrices: Matrices, sizes: HeadSizes) -> Matrices:
    """Matrices -> one block of d_head rows for each head: (heads, d_head, ...), (kv_heads, d_head, ...) twice."""
    query, key, value = (each.view(-1, sizes.d_head, *each.shape[1:]) for each in matrices)
    return query, key, value


def from_heads(heads: Matrices) -> Matrices:
    """One block of rows for each head -> matrices."""
    query, key, value = (each.flatten(0, 1) for each in heads)
    return query, key, value


def to_fused(matrices: Matrices) -> Tensor:
    """Matrices -> (heads * d_head + 2 * kv_heads * d_head, ...)."""
    return torch.cat(matrices)


def from_fused(fused: Tensor, sizes: HeadSizes) -> Matrices:
    """(heads * d_head + 2 * kv_heads * d_head, ...) -> matrices."""
    _require_rows(fused, sizes)
    query, key, value = torch.split(fused, sizes.rows)
    return query, key, value


def to_interleaved(matrices: Matrices, sizes: HeadSizes) -> Tensor:
    """Matrices -> the same rows as fused, in groups: queries of a key/value head, its key, its value."""
    query, key, value = (each.view(sizes.kv_heads, -1, *each.shape[1:]) for each in matrices)
    return torch.cat([query, key, value], dim=1).flatten(0, 1)


def from_interleaved(interleaved: Tensor, sizes: HeadSizes) -> Matrices:
    """Groups of queries, key and value -> matrices."""
    _require_rows(interleaved, sizes)
    groups = interleaved.view(sizes.kv_heads, -1, *interleaved.shape[1:])
    rows = [each // sizes.kv_heads for each in sizes.rows]
    query, key, value = (each.flatten(0, 1) for each in torch.split(groups, rows, dim=1))
    return query, key, value


def _require_rows(fused: Tensor, sizes: HeadSizes) -> None:
    if len(fused) != sum(sizes.rows):
        found, expected = f"{len(fused)} rows", f"{sum(sizes.rows)} for {sizes}"
        raise ModelError("not a matrix of queries, keys and values of these heads", found=found, expected=expected)
