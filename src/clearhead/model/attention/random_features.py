"""Softmax attention by random features, at linear cost (Choromanski et al., 2021, arXiv:2009.14794)."""

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from clearhead.model.attention.base import ATTENTIONS
from clearhead.model.attention.linear import Linear


@ATTENTIONS.register("random_features")
class RandomFeatures(Linear):
    """Positive orthogonal features whose products are exp(query . key / sqrt(d_head)) on average.

    The features are drawn once, from torch's generator, and saved with the weights.

    Args:
        features: how many; more are closer to the softmax and cost more.
        chunk: queries that a causal pass takes at a time.
    """

    products: ClassVar[bool] = True
    alone: ClassVar[bool] = False  # scaled by the largest key
    directions: Tensor  # (features, d_head)

    def __init__(
        self, heads: int, d_head: int, dropout: float, *, features: PositiveInt = 64, chunk: PositiveInt = 64
    ) -> None:
        super().__init__(heads, d_head, dropout, chunk=chunk)
        self.register_buffer("directions", orthogonal(features, d_head))

    def query_features(self, query: Tensor) -> Tensor:
        exponent = self._exponent(query)
        return (exponent - exponent.amax(dim=-1, keepdim=True).detach()).exp()  # what is taken off cancels in the ratio

    def key_features(self, key: Tensor) -> Tensor:
        exponent = self._exponent(key)
        return (exponent - exponent.amax(dim=(-1, -2), keepdim=True).detach()).exp()

    def _exponent(self, states: Tensor) -> Tensor:
        """log of each feature: w . x - |x|^2 / 2, with x the state over d_head^(1/4)."""
        scaled: Tensor = states * states.shape[-1] ** -0.25
        along: Tensor = scaled @ self.directions.to(states.dtype).T  # (batch, heads, length, features)
        return along - scaled.square().sum(dim=-1, keepdim=True) / 2


def orthogonal(rows: int, width: int) -> Tensor:
    """Vectors (rows, width), orthogonal within each block of `width`, as long as independent Gaussian ones."""
    lengths: Tensor = torch.randn(rows, width).norm(dim=1, keepdim=True)
    turns = [_turn(width) for _ in range(-(-rows // width))]
    return lengths * torch.cat(turns)[:rows]


def _turn(width: int) -> Tensor:
    """An orthogonal matrix, all equally likely; without the signs a QR decomposition prefers some of them."""
    orthonormal, triangular = torch.linalg.qr(torch.randn(width, width))
    turn: Tensor = orthonormal * torch.sign(triangular.diagonal())
    return turn
