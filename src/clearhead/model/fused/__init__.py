"""What a block does in training between its matrix products, each in one pass over the memory, in C."""

from clearhead.model.fused.attention import LONGEST, attend, can_attend
from clearhead.model.fused.joining import can_drop, can_join, can_norm, drop, join, rms_norm
from clearhead.model.fused.rotating import can_rotate, rotate
from clearhead.model.fused.slopes import can_slope, slope_

__all__ = [
    "LONGEST",
    "attend",
    "can_attend",
    "can_drop",
    "can_join",
    "can_norm",
    "can_rotate",
    "can_slope",
    "drop",
    "join",
    "rms_norm",
    "rotate",
    "slope_",
]
