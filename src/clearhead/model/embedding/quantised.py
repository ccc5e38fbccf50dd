"""A table of 8-bit integers with one scale for each row (the row-wise case of Dettmers et al., 2022, arXiv:2208.07339).

vocab x d_model bytes and vocab numbers in place of vocab x d_model numbers.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from clearhead.model.embedding.base import EMBEDDINGS, Embedding, new_table, require_rows

LARGEST = 127  # the largest code; -128 is not used, so that codes are symmetric


@EMBEDDINGS.register("quantised")
class Quantised(Embedding):
    """Row t is scale t times the codes of t; codes are fixed, scales are trained.

    `load` quantises a table that was learned elsewhere: each number is then off by at most half a scale.
    """

    codes: Tensor  # (vocab, d_model) int8

    def __init__(self, vocab: int, d_model: int, pad: int) -> None:
        super().__init__(vocab, d_model, pad)
        require_rows(vocab, pad)
        codes, scales = quantise(new_table(vocab, d_model).detach())
        self.register_buffer("codes", codes)
        self.scales = nn.Parameter(scales)  # (vocab,)

    def forward(self, tokens: Tensor) -> Tensor:
        scales = F.embedding(tokens, self.scales[:, None], padding_idx=self.pad)  # (batch, length, 1)
        return scales * self.codes[tokens]  # (batch, length, d_model)

    def fill(self, vectors: Tensor) -> None:
        codes, scales = quantise(vectors)
        self.codes.copy_(codes)
        self.scales.copy_(scales)


def quantise(table: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (rows, width) -> codes (rows, width) int8 and scales (rows,); a row of zeros has scale 1.

    Codes times scales differ from the table by at most half of the row's scale.
    """
    largest = table.abs().amax(dim=1)  # (rows,)
    scales = (largest / LARGEST).where(largest > 0, 1.0)
    return (table / scales[:, None]).round().char(), scales
