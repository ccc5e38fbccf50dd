"""A trainable vector for each position (Gehring et al., 2017, arXiv:1705.03122, section 3.1; BERT, GPT-2)."""

import torch
from torch import Tensor, nn

from clearhead.core.errors import ModelError
from clearhead.model.position.base import POSITIONS, Position


@POSITIONS.register("learned")
class Learned(Position):
    """Add row t of a trainable table; there is no position beyond the table's end."""

    def __init__(self, d_model: int, heads: int, d_head: int, length: int) -> None:
        super().__init__(d_model, heads, d_head, length)
        self.limit = length
        self.table = nn.Parameter(torch.empty(length, d_model))  # (length, d_model)
        nn.init.normal_(self.table, std=d_model**-0.5)

    def add(self, embedded: Tensor, positions: Tensor) -> Tensor:
        last = int(positions.max()) + 1 if positions.numel() else 0
        if last > len(self.table):
            raise ModelError(
                "this text is longer than the learned position table",
                found=f"{last} tokens",
                expected=f"at most {len(self.table)} tokens",
                remedy="shorten the text, or train with a larger model.length or another model.position",
            )
        return embedded + self.table[positions].to(embedded.dtype)
