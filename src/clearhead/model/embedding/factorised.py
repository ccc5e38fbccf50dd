"""A narrow table and a linear map to d_model (Lan et al., 2020, arXiv:1909.11942, section 3.1; ALBERT, ELECTRA)."""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from clearhead.model.embedding.base import EMBEDDINGS, Embedding, new_table, require_rows


@EMBEDDINGS.register("factorised")
class Factorised(Embedding):
    """vocab x width + width x d_model parameters in place of vocab x d_model.

    Args:
        width: features of a row.
    """

    def __init__(self, vocab: int, d_model: int, pad: int, *, width: Annotated[int, Field(gt=0)] = 128) -> None:
        super().__init__(vocab, d_model, pad)
        require_rows(vocab, pad)
        self.width = width
        self.table = new_table(vocab, width)  # (vocab, width)
        self.projection = nn.Linear(width, d_model)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.table, padding_idx=self.pad)  # (batch, length, width)

    def project(self, embedded: Tensor) -> Tensor:
        projected: Tensor = self.projection(embedded)
        return projected

    def matrix(self) -> nn.Parameter:
        return self.table
