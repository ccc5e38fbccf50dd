"""Layer normalisation (Ba et al., 2016, arXiv:1607.06450)."""

from torch import nn

from clearhead.model.norm.base import NORMS


@NORMS.register("layernorm")
class LayerNorm(nn.LayerNorm):
    """Each token to mean 0 and variance 1 over its d_model features, then gain and bias."""

    def __init__(self, d_model: int, *, epsilon: float = 1e-5) -> None:
        super().__init__(d_model, eps=epsilon)
