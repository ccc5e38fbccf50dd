"""Normalisations of the hidden state."""

from clearhead.model.norm.base import NORMS
from clearhead.model.norm.layernorm import LayerNorm
from clearhead.model.norm.rmsnorm import RMSNorm

__all__ = ["NORMS", "LayerNorm", "RMSNorm"]
