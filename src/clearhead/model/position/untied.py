"""Positions that are scored apart from content (Ke et al., 2021, arXiv:2006.15595, section 3.1; TUPE)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.model.position.base import POSITIONS, Position
from clearhead.model.position.learned import Learned


@POSITIONS.register("untied")
class Untied(Position):
    """score + (p_i W_Q) . (p_j W_K) / sqrt(2 d_head): vectors of positions meet each other, and never a word.

    One table and one pair of maps serve all blocks: length x d_model + 2 x d_model x heads x d_head parameters. The
    paper divides the score of content by sqrt(2 d_head) too: set the scale of the attention. It also unties the first
    token and puts a norm on the vectors of positions in its code; neither is done here.
    """

    biases: ClassVar[bool] = True

    def __init__(self, d_model: int, heads: int, d_head: int, length: int) -> None:
        super().__init__(d_model, heads, d_head, length)
        self.heads, self.limit, self.scale = heads, length, (2 * d_head) ** -0.5
        self.vectors = Learned(d_model, heads, d_head, length)
        nn.init.normal_(self.vectors.table)
        self.query = nn.Parameter(torch.empty(heads * d_head, d_model))
        self.key = nn.Parameter(torch.empty(heads * d_head, d_model))
        for each in (self.query, self.key):
            nn.init.xavier_uniform_(each)

    def add(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """Adds nothing; refuses what is beyond the table, once for all blocks."""
        self.vectors.check(positions)
        return embedded

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        asking = self._states(query_positions, self.query)  # (batch or 1, heads, queries, d_head)
        asked = self._states(key_positions, self.key)  # (batch or 1, heads, keys, d_head)
        scores: Tensor = self.scale * asking @ asked.transpose(-1, -2)
        return scores  # (batch or 1, heads, queries, keys)

    def _states(self, positions: Tensor, weight: Tensor) -> Tensor:
        states = F.linear(self.vectors.table[positions], weight)  # (batch or 1, length, heads * d_head)
        return states.view(*positions.shape, self.heads, -1).transpose(1, 2)
