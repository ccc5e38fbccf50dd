"""The doorway of the feed-forward family: (batch, length, d_model) -> the same shape, each token by itself."""

from torch import nn

from clearhead.core.registry import Registry

FEEDFORWARDS: Registry[nn.Module] = Registry("feedforward")
