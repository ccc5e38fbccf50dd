"""Batches as models read them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clearhead.data.store import Ids


@dataclass(frozen=True, eq=False)
class TranslationBatch:
    """Sentence pairs, padded on the right; the target is shifted by one for teacher forcing."""

    source: Tensor  # (batch, source) int64; ends with eos
    source_valid: Tensor | None  # (batch, source) bool, False for padding; None = no padding
    target: Tensor  # (batch, target) int64; begins with bos
    labels: Tensor  # (batch, target) int64; ends with eos
    counted: Tensor  # (batch, target) bool, False for padding
    rows: Ids | None = None  # (batch,) of the stores of a training; None = from elsewhere

    @property
    def tokens(self) -> int:
        """Labels that count in the loss."""
        return int(self.counted.sum())

    def to(self, device: torch.device) -> "TranslationBatch":
        """The same batch on a device."""
        if device.type == "cpu":
            return self
        moved: dict[str, Any] = {
            each.name: value.to(device, non_blocking=True)
            for each in fields(self)
            if isinstance(value := getattr(self, each.name), Tensor)
        }
        return replace(self, **moved)


Frame = tuple[Sequence[int], Sequence[int]]  # ids before and after a text


def translation_batch(
    sources: Sequence[Ids],
    targets: Sequence[Ids],
    *,
    pad: int,
    bos: int,
    eos: int,
    frame: Frame | None = None,
    step: int = 1,
    rows: Ids | None = None,
) -> TranslationBatch:
    """Collate ids without special tokens: source + eos, bos + target, target + eos.

    `frame`: what stands round each source, where a model was trained with more than an eos after it.
    `step`: both sides are padded to a multiple of it.
    `rows`: where the pairs stand in the stores of a training.
    """
    before, after = ([], [eos]) if frame is None else frame
    source = padded([np.concatenate([before, each, after]).astype(np.int64) for each in sources], pad, step)
    labels = padded([np.append(each, eos) for each in targets], pad, step)
    shifted = padded([np.insert(each, 0, bos) for each in targets], pad, step)
    source_valid = _valid([len(before) + len(each) + len(after) for each in sources], source.shape[1])
    return TranslationBatch(
        source=source,
        source_valid=None if bool(source_valid.all()) else source_valid,
        target=shifted,
        labels=labels,
        counted=_valid([len(each) + 1 for each in targets], labels.shape[1]),
        rows=rows,
    )


def padded(sequences: Sequence[Ids], pad: int, step: int = 1) -> Tensor:
    """(batch, longest) int64, filled with `pad` on the right up to a multiple of `step`."""
    longest = max(len(each) for each in sequences)
    table = np.full((len(sequences), -(-longest // step) * step), pad, dtype=np.int64)
    for row, each in enumerate(sequences):
        table[row, : len(each)] = each
    return torch.from_numpy(table)


def _valid(lengths: list[int], width: int) -> Tensor:
    return torch.arange(width) < torch.tensor(lengths)[:, None]
