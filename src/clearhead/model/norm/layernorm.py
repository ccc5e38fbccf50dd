"""Layer normalisation (Ba et al., 2016, arXiv:1607.06450), and the same over groups of features.

Groups: Wu and He, 2018, arXiv:1803.08494, here for each token by itself, so that no token sees another.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from clearhead.core.errors import ConfigError
from clearhead.model.norm.base import NORMS, Norm


@NORMS.register("layernorm")
class LayerNorm(Norm):
    """Each token to mean 0 and variance 1 over its features, then gain and bias."""

    def __init__(self, features: int, *, epsilon: float = 1e-5) -> None:
        super().__init__(features)
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        return F.layer_norm(hidden, self.weight.shape, self.weight, self.bias, self.epsilon)


@NORMS.register("groupnorm")
class GroupNorm(LayerNorm):
    """Each group of neighbouring features of a token to mean 0 and variance 1, then gain and bias.

    Args:
        groups: how many; it divides the features. 1 = layer normalisation.
    """

    def __init__(self, features: int, *, groups: Annotated[int, Field(gt=0)] = 2, epsilon: float = 1e-5) -> None:
        super().__init__(features, epsilon=epsilon)
        if features % groups:
            found = f"{groups} groups, {features} features"
            raise ConfigError("the groups of groupnorm must divide the features", found=found)
        self.groups = groups

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        tokens = hidden.reshape(-1, hidden.shape[-1])  # (tokens, features)
        return F.group_norm(tokens, self.groups, self.weight, self.bias, self.epsilon).view_as(hidden)
