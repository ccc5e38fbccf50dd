"""From logits to the slope of the cross-entropy in one pass over each row."""

from ctypes import byref

import torch
from torch import Tensor

from clearhead.model.fused.library import Slopes, library, ready, threads_for


def can_slope(*logits: Tensor) -> bool:
    """Whether `slope_` can do this, with the teacher's logits beside the own ones if there are two."""
    alike = all(each.shape == logits[0].shape and each.dtype == logits[0].dtype for each in logits)
    return alike and logits[0].numel() > 0 and all(each.is_contiguous() for each in logits) and ready(*logits)


def slope_(
    logits: Tensor, labels: Tensor, own_share: float, theirs: Tensor | None = None, their_share: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Overwrite logits (rows, words), float32 or bfloat16, by softmax - own_share at the label, and with a teacher
    - their_share softmax(theirs) everywhere.

    Args:
        labels: (rows,) int64.
        theirs: logits of the teacher in the shape and dtype of `logits`.

    Returns:
        -log p of each label, (rows,) float32; and z[label] - sum q z where q is the teacher's softmax and z the
        logits, (rows,) float32, 0 without a teacher.
    """
    compiled = library()
    assert compiled is not None
    labels = labels.contiguous()
    lost, apart = (logits.new_zeros(len(labels), dtype=torch.float32) for _ in range(2))
    address = None if theirs is None else theirs.data_ptr()
    call = Slopes(logits.data_ptr(), labels.data_ptr(), lost.data_ptr(), address, apart.data_ptr(), *logits.shape)
    call.own_share, call.their_share, call.half = own_share, their_share, logits.dtype == torch.bfloat16
    if compiled.clearhead_slopes(byref(call), threads_for(logits.numel())):
        raise MemoryError("no memory for a row of logits")
    return lost, apart
