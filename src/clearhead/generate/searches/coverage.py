"""How much of its source a hypothesis has read (Wu et al., 2016, arXiv:1609.08144, section 7, the term cp).

Each source token should get attention 1 in all; what it lacks costs beta * -log(attention). The paper's model has one
attention; here it is the last cross-attention of the decoder, its heads averaged.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.generate.searches.writer import Writer
from clearhead.model import Transformer
from clearhead.model.attention.multihead import CrossAttention
from clearhead.model.recorder import Record, recording

Ints = NDArray[np.int64]
LEAST = 1e-9  # attention that counts as none at all, so that the penalty stays a number


class NoCoverage:
    """For searches that do not ask."""

    def look(self, writer: Writer, groups: int) -> None:
        """Nothing is noted."""

    def select(self, groups: Ints, beams: Ints) -> None:
        """There is nothing to rearrange."""

    def penalties(self, groups: Ints, beams: Ints) -> list[float]:
        """None."""
        return [0.0] * len(groups)


class Coverage(NoCoverage):
    """Attention that each source token has had, for every beam."""

    def __init__(self, record: Record, beta: float) -> None:
        self.record, self.beta = record, beta
        self.read: Tensor | None = None  # (groups of beams, beams, source)

    def look(self, writer: Writer, groups: int) -> None:
        """Note what the newest token of every beam has read, for so many groups of beams."""
        (weights,) = self.record.calls.pop("kernel")  # (texts, heads, rows, source)
        if self.read is None:  # what all texts begin with
            weights = weights.sum(dim=2, keepdim=True)  # (texts, heads, 1, source)
        newest = weights.mean(dim=1)  # (texts, rows, source)
        if writer.memory is not None and writer.memory.valid is not None:
            newest = newest.masked_fill(~writer.memory.valid[:, None], 1.0)  # padding needs no attention
        newest = newest.flatten(0, 1)  # (texts * rows, source); at first one row for all groups of a text
        newest = newest.repeat_interleave(max(1, groups // len(newest)), dim=0).view(groups, -1, newest.shape[1])
        self.read = newest if self.read is None else self.read + newest

    def select(self, groups: Ints, beams: Ints) -> None:
        """Of these groups (kept,) keep these beams (kept, new number)."""
        if self.read is not None:
            self.read = self.read[torch.from_numpy(groups)[:, None], torch.from_numpy(beams)]

    def penalties(self, groups: Ints, beams: Ints) -> list[float]:
        """What the scores of some beams (picked,) of groups (picked,) lose; each at most 0."""
        assert self.read is not None
        read = self.read[torch.from_numpy(groups), torch.from_numpy(beams)]  # (picked, source)
        found: list[float] = (self.beta * read.clamp(LEAST, 1.0).log().sum(dim=1)).tolist()
        return found


@contextmanager
def covering(model: Transformer, beta: float) -> Iterator[NoCoverage]:
    """What notes the coverage while a search runs."""
    if not beta:
        yield NoCoverage()
        return
    crossings = [each for each in model.modules() if isinstance(each, CrossAttention)]
    if not crossings:
        remedy = "leave coverage_penalty out"
        raise ModelError("a coverage penalty needs a decoder that reads a source by attention", remedy=remedy)
    with recording(crossings[-1]) as record:
        yield Coverage(record, beta)
