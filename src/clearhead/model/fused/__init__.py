"""What a block does in training between its matrix products, each in one pass over the memory, in C."""

from clearhead.model.fused.attention import attend, can_attend
from clearhead.model.fused.joining import can_drop, can_join, drop, join
from clearhead.model.fused.slopes import can_slope, slope_

__all__ = ["attend", "can_attend", "can_drop", "can_join", "can_slope", "drop", "join", "slope_"]
