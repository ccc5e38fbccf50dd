"""A table with one row for each token (Vaswani et al., 2017, section 3.4)."""

import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.model.embedding.base import EMBEDDINGS, Embedding, new_table, require_rows


@EMBEDDINGS.register("table")
class Table(Embedding):
    """Row t for token t; the row of padding gets no gradient from here."""

    def __init__(self, vocab: int, d_model: int, pad: int) -> None:
        super().__init__(vocab, d_model, pad)
        require_rows(vocab, pad)
        self.table = new_table(vocab, d_model)  # (vocab, d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.table, padding_idx=self.pad)  # (batch, length, d_model)

    def matrix(self) -> nn.Parameter:
        return self.table
