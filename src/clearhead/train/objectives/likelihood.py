"""Log-likelihood of labels at the counted places of a batch, without a tensor of all logits."""

import torch
from torch import Tensor

from clearhead.data.batches import TranslationBatch
from clearhead.data.text_batches import TextBatch
from clearhead.model import AttentionMask, Transformer
from clearhead.model.head import Head
from clearhead.train.linear_cross_entropy import Teacher, linear_cross_entropy


def counted(states: Tensor, batch: TextBatch) -> Tensor:
    """States (batch, length, ...) at the counted places, (tokens, ...)."""
    return states.flatten(0, 1) if batch.tokens == batch.counted.numel() else states[batch.counted]


def negative_log_likelihood(head: Head, hidden: Tensor, labels: Tensor) -> Tensor:
    """Sum of -log p(label) in nats; hidden (tokens, d_model), labels (tokens,)."""
    return smoothed_likelihood(head, hidden, labels, 0.0)[0]


def smoothed_likelihood(
    head: Head,
    hidden: Tensor,
    labels: Tensor,
    smoothing: float,
    agreement: float = 0.0,
    teacher: Teacher | None = None,
) -> tuple[Tensor, Tensor]:
    """`linear_cross_entropy` of a head whose scores are a linear map; arguments as above."""
    features, matrix = linear_map(head, hidden)
    return linear_cross_entropy(features, matrix, labels, smoothing, agreement, teacher)


def linear_map(head: Head, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Features (tokens, width) and a matrix (vocab, width) whose product are the logits, bias included."""
    features, matrix = head.transform(hidden), head.matrix
    if head.bias is None:
        return features, matrix
    features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)  # one more feature that is always 1
    return features, torch.cat([matrix, head.bias[:, None]], dim=1)


def read_pairs(model: Transformer, batch: TranslationBatch) -> Tensor:
    """Hidden states (batch, target, d_model), each given the source and the reference before its token."""
    valid = batch.counted if model.config.norm_across_tokens else None  # else the causal mask hides padding for free
    hidden: Tensor = model(batch.source, batch.target, source_valid=batch.source_valid, target_valid=valid)
    return hidden


def read_both_ways(model: Transformer, batch: TextBatch, types: Tensor | None = None) -> Tensor:
    """Hidden states (batch, length, d_model) of an encoder; no segment sees another."""
    mask, valid = AttentionMask(segments=batch.segments), padding(model, batch)
    return model.encode(batch.ids, valid, mask=mask, positions=batch.positions, segments=types).hidden


def padding(model: Transformer, batch: TextBatch) -> Tensor | None:
    """(batch, length) bool, False for padding, for a norm that looks at all tokens; for attention segments say it."""
    if batch.segments is None or not model.config.norm_across_tokens:
        return None
    return batch.segments > 0
