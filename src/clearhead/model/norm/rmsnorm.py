"""Root mean square normalisation (Zhang and Sennrich, 2019, arXiv:1910.07467)."""

from torch import nn

from clearhead.model.norm.base import NORMS


@NORMS.register("rmsnorm")
class RMSNorm(nn.RMSNorm):
    """Each token divided by the root mean square of its d_model features, then a gain."""

    def __init__(self, d_model: int, *, epsilon: float = 1e-6) -> None:
        super().__init__(d_model, eps=epsilon)
