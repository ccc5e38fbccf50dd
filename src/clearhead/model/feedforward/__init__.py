"""Position-wise feed-forward networks."""

from clearhead.model.feedforward.base import FEEDFORWARDS
from clearhead.model.feedforward.gated import Geglu, Swiglu
from clearhead.model.feedforward.plain import Gelu, Relu, Silu

__all__ = ["FEEDFORWARDS", "Geglu", "Gelu", "Relu", "Silu", "Swiglu"]
