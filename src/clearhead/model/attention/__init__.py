"""Attention: kernels that mix values, and the modules that project, split heads and merge them again."""

from clearhead.model.attention.base import ATTENTIONS, Kernel
from clearhead.model.attention.dot import Dot
from clearhead.model.attention.multihead import CrossAttention, SelfAttention

__all__ = ["ATTENTIONS", "CrossAttention", "Dot", "Kernel", "SelfAttention"]
