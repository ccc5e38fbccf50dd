"""Residual connections: how a sub-layer is joined to the stream."""

from clearhead.model.residual.base import RESIDUALS, Residual
from clearhead.model.residual.placement import PostNorm, PreNorm

__all__ = ["RESIDUALS", "PostNorm", "PreNorm", "Residual"]
