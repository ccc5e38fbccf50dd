"""Root mean square normalisation (Zhang and Sennrich, 2019, arXiv:1910.07467)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.model.fused import can_norm, rms_norm
from clearhead.model.norm.base import NORMS, Norm


@NORMS.register("rmsnorm")
class RMSNorm(Norm):
    """Each token divided by the root mean square of its features, then a gain."""

    def __init__(self, features: int, *, epsilon: float = 1e-6) -> None:
        super().__init__(features)
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(features))

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        if self.training and can_norm(hidden, self.weight):
            return rms_norm(hidden, self.weight, self.epsilon)
        return F.rms_norm(hidden, self.weight.shape, self.weight, self.epsilon)
