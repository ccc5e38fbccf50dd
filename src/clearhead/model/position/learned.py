"""A trainable vector for each position (Gehring et al., 2017, arXiv:1705.03122, section 3.1; BERT, GPT-2)."""

import torch
from pydantic import NonNegativeInt
from torch import Tensor, nn

from clearhead.core.errors import ModelError
from clearhead.model.position.base import POSITIONS, Position


@POSITIONS.register("learned")
class Learned(Position):
    """Add row t + offset of a trainable table; there is no position beyond the table's end.

    Args:
        offset: rows before the one of position 0; BART's and RoBERTa's tables begin with 2 that no token uses.
    """

    def __init__(self, d_model: int, heads: int, d_head: int, length: int, *, offset: NonNegativeInt = 0) -> None:
        super().__init__(d_model, heads, d_head, length)
        self.limit, self.offset = length, offset
        self.table = nn.Parameter(torch.empty(length + offset, d_model))  # (offset + length, d_model)
        nn.init.normal_(self.table, std=d_model**-0.5)

    def add(self, embedded: Tensor, positions: Tensor) -> Tensor:
        self.check(positions)
        return embedded + self.table[positions + self.offset].to(embedded.dtype)

    def check(self, positions: Tensor) -> None:
        """Refuse positions beyond the table with a ModelError."""
        last, limit = int(positions.max()) + 1 if positions.numel() else 0, len(self.table) - self.offset
        if last > limit:
            raise ModelError(
                "this text is longer than the learned position table",
                found=f"{last} tokens",
                expected=f"at most {limit} tokens",
                remedy="shorten the text, or train with a larger model.length or another model.position",
            )
