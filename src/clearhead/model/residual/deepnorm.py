"""Residuals for a thousand layers (Wang et al., 2022, arXiv:2203.00555): a larger stream, smaller initial weights."""

import torch
from torch import Tensor, nn

from clearhead.model.attention.projections import Projections
from clearhead.model.residual.base import RESIDUALS, Depth, NewNorm, Residual, Sublayer


@RESIDUALS.register("deepnorm")
class DeepNorm(Residual):
    """norm(alpha * hidden + dropout(sublayer(hidden))); feed-forward, W_V and W_O start beta times as large."""

    def __init__(self, norm: NewNorm, dropout: float, depth: Depth) -> None:
        super().__init__(norm, dropout, depth)
        self.alpha, self.beta = constants(depth)

    def forward(self, hidden: Tensor, sublayer: Sublayer, valid: Tensor | None = None) -> Tensor:
        joined: Tensor = self.norm(self.alpha * hidden + self.dropout(sublayer(hidden)), valid)
        return joined

    @torch.no_grad()
    def initialise(self, sublayer: nn.Module) -> None:
        projections = [each for each in sublayer.modules() if isinstance(each, Projections)]
        spared = {inner for each in projections for inner in each.modules()}
        for each in projections:
            if "value" in (matrices := each.matrices()):
                matrices["value"].mul_(self.beta)
        for module in sublayer.modules():
            if isinstance(module, nn.Linear) and module not in spared:
                module.weight.mul_(self.beta)


def constants(depth: Depth) -> tuple[float, float]:
    """alpha and beta of the paper's figure 2 for one side of a model."""
    encoder, decoder = depth.encoder_layers, depth.decoder_layers
    if not (encoder and decoder):
        layers = encoder + decoder
        return (2 * layers) ** 0.25, (8 * layers) ** -0.25
    if depth.decodes:
        return (3 * decoder) ** 0.25, (12 * decoder) ** -0.25
    both = (encoder**4 * decoder) ** (1 / 16)
    return 0.81 * both, 0.87 / both
