"""What searches ask of logits, by the compiled library."""

import torch
from torch import Tensor

from clearhead.model.packing.compiled import threads_for
from clearhead.model.packing.library import library

WORTH = 16  # products that a logit is worth, when threads are counted


def ranks(logits: Tensor) -> bool:
    """Whether these functions take the logits."""
    return logits.dtype == torch.float32 and logits.device.type == "cpu" and library() is not None


def log_sums(logits: Tensor) -> Tensor:
    """The logarithm of the sum of exponentials of each row, (rows, vocab) -> (rows, 1)."""
    compiled, logits = library(), logits.contiguous()
    assert compiled is not None
    rows, vocab = logits.shape
    sums = logits.new_empty(rows, 1)
    compiled.clearhead_log_sums(logits.data_ptr(), rows, vocab, sums.data_ptr(), _threads(logits))
    return sums


def largest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest `count` of each row and their places, best first, each (rows, count); of equal ones the first."""
    compiled, logits = library(), logits.contiguous()
    assert compiled is not None
    rows, vocab = logits.shape
    best, places = logits.new_empty(rows, count), torch.empty(rows, count, dtype=torch.int64)
    told = (best.data_ptr(), places.data_ptr(), _threads(logits))
    compiled.clearhead_largest(logits.data_ptr(), rows, vocab, count, *told)
    return best, places


def _threads(logits: Tensor) -> int:
    return min(len(logits), threads_for(WORTH * logits.numel()))
