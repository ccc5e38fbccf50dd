"""Relative positions of Transformer-XL (Dai et al., 2019, arXiv:1901.02860, section 3.3)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from clearhead.model.position.base import POSITIONS, UNRELATED, InLayer, LayerPosition, Position, Relation, distances
from clearhead.model.position.shaw import at_distance
from clearhead.model.position.sinusoidal import waves


@POSITIONS.register("xl")
class TransformerXL(Position):
    """A score of four terms: content and distance, each met by the query and by a bias that all queries share.

    Each block has its own projection of the distances. `generate.SegmentCache` keeps the keys and values of
    earlier segments.

    Args:
        base: the longest wave of a distance is 2 pi times this many tokens.
    """

    biases: ClassVar[bool] = True

    def __init__(self, d_model: int, heads: int, d_head: int, length: int, *, base: float = 10_000.0) -> None:
        super().__init__(d_model, heads, d_head, length)
        self.d_model, self.heads, self.d_head, self.base = d_model, heads, d_head, base

    def layer(self, *, causal: bool) -> LayerPosition:
        return XLLayer(self.d_model, self.heads, self.d_head, base=self.base)


class XLLayer(InLayer):
    """(query + u) . key + (query + v) . W_R waves(distance), over sqrt(d_head); query . key is left to the kernel."""

    def __init__(self, d_model: int, heads: int, d_head: int, *, base: float) -> None:
        super().__init__()
        self.base = base
        self.project = nn.Linear(d_model, heads * d_head, bias=False)  # W_R
        self.content = nn.Parameter(torch.empty(heads, d_head))  # u
        self.distance = nn.Parameter(torch.empty(heads, d_head))  # v
        for each in (self.content, self.distance):
            nn.init.normal_(each, std=0.02)

    def relate(self, query: Tensor, key: Tensor, query_positions: Tensor, key_positions: Tensor) -> Relation:
        distance = distances(query_positions, key_positions)  # (batch or 1, queries, keys)
        if not distance.numel():
            return UNRELATED
        low, high = (int(each) for each in distance.aminmax())
        states = self.states(torch.arange(low, high + 1, device=query.device), query.dtype)
        by_distance = (query + self.distance[:, None]) @ states.transpose(-1, -2)  # (batch, heads, queries, distances)
        content = self.content.view(key.shape[1], -1, key.shape[-1])  # (kv_heads, heads of a group, d_head)
        by_content = torch.einsum("hgd,bhkd->bhgk", content, key).flatten(1, 2)[:, :, None]  # (batch, heads, 1, keys)
        return Relation(query.shape[-1] ** -0.5 * (at_distance(by_distance, distance - low) + by_content))

    def states(self, distance: Tensor, dtype: torch.dtype) -> Tensor:
        """Distances (distances,) -> what a query meets instead of a key: (heads, distances, d_head)."""
        seen = waves(distance, self.project.in_features, self.base, "halves").to(dtype)  # (distances, d_model)
        projected: Tensor = self.project(seen)  # (distances, heads * d_head)
        return projected.view(len(distance), *self.content.shape).transpose(0, 1)
