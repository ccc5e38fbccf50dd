"""Batches of text as language models and classifiers read them: rows of one width, padded on the right.

tokens     bos  a   b  | bos  c   d   e  | pad
labels      a   b  eos |  c   d   e  eos | pad        next tokens, for a causal objective
segments    1   1   1  |  2   2   2   2  |  0         a token sees only its own segment
positions   0   1   2  |  0   1   2   3  |  0
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from clearhead.data.store import Ids

Self = TypeVar("Self", bound="OnDevice")


@dataclass(frozen=True, eq=False)
class OnDevice:
    """A batch whose tensors move together."""

    tokens: int  # what the loss is summed over

    def to(self: Self, device: torch.device) -> Self:
        """The same batch on a device."""
        if device.type == "cpu":
            return self
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        tensors = ((name, each) for name, each in values if isinstance(each, Tensor))
        moved: dict[str, Any] = {name: each.to(device, non_blocking=True) for name, each in tensors}
        return replace(self, **moved)


@dataclass(frozen=True, eq=False)
class TextBatch(OnDevice):
    """Rows of text and a label for some of their places."""

    ids: Tensor  # (batch, length) int64, what the model reads
    labels: Tensor  # (batch, length) int64
    counted: Tensor  # (batch, length) bool, the places whose label counts in the loss
    segments: Tensor | None = None  # (batch, length) int64, 0 for padding; None = each row is one full piece
    positions: Tensor | None = None  # (batch, length) int64, from 0 in each segment; None where segments is None


@dataclass(frozen=True, eq=False)
class PrefixBatch(TextBatch):
    """Rows whose pieces begin with a part that is read in both directions."""

    prefix: Tensor | None = None  # (batch, length) bool, True inside the prefix of a piece


@dataclass(frozen=True, eq=False)
class PermutationBatch(TextBatch):
    """Rows in which some places are predicted in a random order; `ids` holds every token as it is."""

    ranks: Tensor | None = None  # (batch, length) int64, the place in the order; -1 = given from the start
    places: Tensor | None = None  # (batch, targets) int64, where the predicted tokens stand
    wanted: Tensor | None = None  # (batch, targets) bool, False for padding of `places`


@dataclass(frozen=True, eq=False)
class PairBatch(TextBatch):
    """Two sentences a row, with masked tokens, and whether the second follows the first."""

    types: Tensor | None = None  # (batch, length) int64, 0 for the first sentence, 1 for the second
    follows: Tensor | None = None  # (batch,) int64, 0 = it follows, 1 = it comes from elsewhere


@dataclass(frozen=True, eq=False)
class LabelledBatch(OnDevice):
    """Texts and their classes."""

    ids: Tensor  # (batch, length) int64
    valid: Tensor | None  # (batch, length) bool, False for padding; None = no padding
    types: Tensor | None  # (batch, length) int64, 0 for the first text, 1 for the second; None = one text only
    labels: Tensor  # (batch,) int64


Rows = Sequence[Sequence[Ids]]  # pieces of each row


def laid(rows: Rows, width: int, fill: int) -> Tensor:
    """The pieces of each row side by side, filled up on the right, (batch, width) int64."""
    table = np.full((len(rows), width), fill, dtype=np.int64)
    for number, pieces in enumerate(rows):
        place = 0
        for piece in pieces:
            table[number, place : place + len(piece)] = piece
            place += len(piece)
    return torch.from_numpy(table)


def borders(rows: Rows, width: int) -> tuple[Tensor | None, Tensor | None]:
    """Segments and positions of rows, each (batch, width) int64; None and None if every row is one full piece."""
    if all([len(each) for each in pieces] == [width] for pieces in rows):
        return None, None
    segments = [[np.full(len(each), number) for number, each in enumerate(pieces, 1)] for pieces in rows]
    positions = [[np.arange(len(each)) for each in pieces] for pieces in rows]
    return laid(segments, width, 0), laid(positions, width, 0)


def shifted(rows: Rows, width: int, pad: int) -> TextBatch:
    """Each token labels the place before it; the last token of a piece is only a label."""
    inputs = [[each[:-1] for each in pieces] for pieces in rows]
    segments, positions = borders(inputs, width)
    counted = laid([[np.ones_like(each) for each in pieces] for pieces in inputs], width, 0).bool()
    labels = laid([[each[1:] for each in pieces] for pieces in rows], width, pad)
    return TextBatch(int(counted.sum()), laid(inputs, width, pad), labels, counted, segments, positions)


def corrupted(rows: Rows, changed: Rows, chosen: Rows, width: int, pad: int) -> TextBatch:
    """`changed` is read, and where `chosen` is not 0 the token of `rows` is the label."""
    segments, positions = borders(rows, width)
    counted = laid(chosen, width, 0).bool()
    return TextBatch(
        int(counted.sum()), laid(changed, width, pad), laid(rows, width, pad), counted, segments, positions
    )
