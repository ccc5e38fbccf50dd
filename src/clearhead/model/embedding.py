"""Token embeddings: a table look-up, scaled by sqrt(d_model) if wanted (Vaswani et al., 2017, section 3.4)."""

import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.model.dropout import Dropout
from clearhead.model.position.base import Position


class Embedding(nn.Module):
    """Ids (batch, length) -> dropout(scale * table[ids] + positions), (batch, length, d_model)."""

    def __init__(self, table: nn.Parameter, position: Position, *, pad: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.table = table  # (vocab, d_model)
        self.position = position
        self.pad, self.scale = pad, scale
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        embedded = F.embedding(tokens, self.table, padding_idx=self.pad)  # (batch, length, d_model)
        placed: Tensor = self.dropout(self.position.add(self.scale * embedded, positions))
        return placed
