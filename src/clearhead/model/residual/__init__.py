"""Residual connections: how a sub-layer is joined to the stream."""

from clearhead.model.residual.base import RESIDUALS, Depth, Residual
from clearhead.model.residual.deepnorm import DeepNorm
from clearhead.model.residual.placement import NoResidual, PostNorm, PreNorm, Sandwich

__all__ = ["RESIDUALS", "DeepNorm", "Depth", "NoResidual", "PostNorm", "PreNorm", "Residual", "Sandwich"]
