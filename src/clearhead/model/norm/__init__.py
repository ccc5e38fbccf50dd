"""Normalisations of the hidden state."""

from clearhead.model.norm.base import NORMS, NoNorm, Norm
from clearhead.model.norm.batchnorm import BatchNorm, NoisyBatchNorm, PositionalBatchNorm, PowerNorm
from clearhead.model.norm.layernorm import GroupNorm, LayerNorm
from clearhead.model.norm.rmsnorm import RMSNorm

__all__ = [
    "NORMS",
    "BatchNorm",
    "GroupNorm",
    "LayerNorm",
    "NoNorm",
    "NoisyBatchNorm",
    "Norm",
    "PositionalBatchNorm",
    "PowerNorm",
    "RMSNorm",
]
