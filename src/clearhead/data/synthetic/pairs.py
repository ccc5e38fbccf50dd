"""A fixed set of pairs of sequences as samples: padded, with start and end, for either kind of model."""

from typing import Literal

import torch
from torch import Tensor

from clearhead.data.synthetic.base import IGNORED, Samples

Form = Literal["decoder", "encoder_decoder"]  # one sequence, or source and target

START, END = 1, 2

Rows = list[list[int]]


def shaped(sources: Rows, targets: Rows, longest: tuple[int, int], form: Form) -> Samples:
    """All pairs, padded with 0.

    Args:
        sources, targets: ids without start and end.
        longest: tokens of a source, and of a target with its end.
        form: source and target for an encoder-decoder, or both in one sequence, with the start between them.
    """
    if form == "decoder":
        return _in_one(sources, targets, sum(longest))
    source, tokens = _padded(sources, longest[0]), _padded([[START, *each] for each in targets], longest[1])
    labels = _padded([[*each, END] for each in targets], longest[1], IGNORED)
    return Samples(tokens, labels, tokens != 0, source, source != 0)


def rows(samples: Samples, chosen: Tensor) -> Samples:
    """The chosen ones of padded samples; `chosen` is (batch,) int64."""
    assert samples.valid is not None
    source = None if samples.source is None else samples.source[chosen]
    source_valid = None if samples.source_valid is None else samples.source_valid[chosen]
    return Samples(samples.tokens[chosen], samples.labels[chosen], samples.valid[chosen], source, source_valid)


def _in_one(sources: Rows, targets: Rows, length: int) -> Samples:
    both = list(zip(sources, targets, strict=True))
    tokens = _padded([[*source, START, *target] for source, target in both], length)
    labels = _padded([[IGNORED] * len(source) + [*target, END] for source, target in both], length, IGNORED)
    return Samples(tokens, labels, tokens != 0)


def _padded(each: Rows, length: int, fill: int = 0) -> Tensor:
    """(rows, length) int64."""
    return torch.tensor([row + [fill] * (length - len(row)) for row in each])
