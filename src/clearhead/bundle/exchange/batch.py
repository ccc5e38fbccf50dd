"""A batch that both libraries read, and our model's answer to it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from clearhead.model import ModelConfig, Transformer

ROWS, LENGTH = 3, 7  # padding included


@dataclass(frozen=True, eq=False)
class Batch:
    """One side is None in a model of one stack; padding stands on the right."""

    source: Tensor | None  # (batch, source) int64 ids, or images (batch, channels, height, width)
    source_valid: Tensor | None  # (batch, source) bool, False for padding
    target: Tensor | None  # (batch, target) int64
    target_valid: Tensor | None  # (batch, target) bool
    segments: Tensor | None = None  # (batch, source) int64

    def arguments(self, reads: str) -> dict[str, Tensor]:
        """What the other library's model takes; `reads` is its name for the first input."""
        if self.source is None:
            given = {reads: self.target, "attention_mask": self.target_valid}
        else:
            given = {reads: self.source, "attention_mask": self.source_valid, "token_type_ids": self.segments}
            given |= {"decoder_input_ids": self.target, "decoder_attention_mask": self.target_valid}
        return {
            name: each.long() if each.dtype == torch.bool else each for name, each in given.items() if each is not None
        }


def words(config: ModelConfig) -> Batch:
    """Random ids, the same every time, in rows of different lengths."""
    random = torch.Generator().manual_seed(3)
    length = min(LENGTH, config.length)
    lengths = torch.tensor([length, max(1, length - 3), max(1, length - 1)])
    valid = torch.arange(length) < lengths[:, None]  # (batch, length)

    def ids(vocab: int) -> Tensor:
        return torch.randint(max(vocab, 1), (ROWS, length), generator=random)

    segments = torch.randint(config.segments, (ROWS, length), generator=random) if config.segments else None
    source, target = ids(config.source_vocab), ids(config.target_vocab)
    if not config.encoder_layers:
        return Batch(None, None, target, valid)
    if not config.decoder_layers:
        return Batch(source, valid, None, None, segments)
    return Batch(source, valid, target, valid.flip(0))


def hidden_states(model: Transformer, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Last hidden states (batch, length, d_model), and which of them are not padding."""
    memory = None
    if batch.source is not None:
        memory = model.encode(batch.source, batch.source_valid, segments=batch.segments)
    if batch.target is not None:
        return model.decode(batch.target, memory, valid=batch.target_valid), batch.target_valid
    assert memory is not None
    return memory.hidden, batch.source_valid


def logits(model: Transformer, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits (batch, length, vocab) or (batch, labels), and which of them count: (batch, length) or (batch,)."""
    hidden, valid = hidden_states(model, batch)
    scores = model.logits(hidden, valid)
    everywhere = torch.ones(scores.shape[:-1], dtype=torch.bool)
    return scores, valid if valid is not None and valid.shape == everywhere.shape else everywhere
