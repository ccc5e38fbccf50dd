"""From logits to the slope of the cross-entropy in one pass over each row."""

from ctypes import byref

import torch
from torch import Tensor

from clearhead.model.fused.library import Slopes, library, ready, threads_for


def can_slope(logits: Tensor) -> bool:
    """Whether `slope_` can do this."""
    return logits.numel() > 0 and logits.is_contiguous() and ready(logits)


def slope_(logits: Tensor, labels: Tensor, own_share: float) -> Tensor:
    """Overwrite logits (rows, words), float32 or bfloat16, by softmax - own_share at the label.

    Args:
        labels: (rows,) int64.

    Returns:
        -log p of each label, (rows,) float32.
    """
    compiled = library()
    assert compiled is not None
    labels, lost = labels.contiguous(), logits.new_empty(len(labels), dtype=torch.float32)
    call = Slopes(logits.data_ptr(), labels.data_ptr(), lost.data_ptr(), *logits.shape, own_share)
    call.half = logits.dtype == torch.bfloat16
    if compiled.clearhead_slopes(byref(call), threads_for(logits.numel())):
        raise MemoryError("no memory for a row of logits")
    return lost
