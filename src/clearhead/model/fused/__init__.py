"""What a block does in training between its matrix products, each in one pass over the memory, in C."""

from clearhead.model.fused.attention import attend, can_attend
from clearhead.model.fused.joining import can_drop, can_join, drop, join

__all__ = ["attend", "can_attend", "can_drop", "can_join", "drop", "join"]
