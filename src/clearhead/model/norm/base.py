"""The doorway of the norm family: a module (batch, length, d_model) -> the same shape."""

from torch import nn

from clearhead.core.registry import Registry

NORMS: Registry[nn.Module] = Registry("norm")
