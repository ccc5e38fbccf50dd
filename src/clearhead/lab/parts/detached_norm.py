"""Layer normalisation whose backward pass takes mean and variance for constants (Xu et al., 2019, arXiv:1911.07013)."""

from torch import Tensor

from clearhead.model.norm import LayerNorm


class DetachedNorm(LayerNorm):
    """The same result as layer normalisation; no gradient passes through the statistics."""

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        fixed = hidden.detach()
        mean = fixed.mean(dim=-1, keepdim=True)
        variance = fixed.var(dim=-1, keepdim=True, unbiased=False)
        return (hidden - mean) * (variance + self.epsilon).rsqrt() * self.weight + self.bias
