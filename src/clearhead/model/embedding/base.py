"""The doorway of the embedding family: ids (batch, length) in, one vector for each token out."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from clearhead.core.errors import ConfigError, ModelError
from clearhead.core.registry import Registry


class Embedding(nn.Module):
    """Vectors for tokens. Wiring: vocab (rows), d_model, pad (the id of padding).

    Scale, positions, token types, norm and dropout come after it, in the width of its vectors; `project` then leads
    to d_model. Most kinds have vectors of width d_model and nothing to project.
    """

    decodes: ClassVar[bool] = True  # may serve a decoder
    reads: ClassVar[str] = "tokens"  # what its input is
    width: int  # features of a vector

    def __init__(self, vocab: int, d_model: int, pad: int) -> None:
        super().__init__()
        self.vocab, self.width, self.pad = vocab, d_model, pad

    def forward(self, tokens: Tensor) -> Tensor:
        """Ids (batch, length) int64 -> (batch, length, width)."""
        raise NotImplementedError

    def project(self, embedded: Tensor) -> Tensor:
        """(batch, length, width) -> (batch, length, d_model)."""
        return embedded

    def length(self, tokens: Tensor) -> int:
        """How many positions what is read will take."""
        return tokens.shape[1]

    def matrix(self) -> nn.Parameter:
        """The table (vocab, width) that an output layer may share; a ConfigError where there is none."""
        found = type(self).__name__.lower()
        remedy = "set model.tie: none, or another model.head"
        raise ConfigError("this embedding has no table that an output could share", found=found, remedy=remedy)

    @torch.no_grad()
    def load(self, vectors: Tensor) -> None:
        """Take over vectors that were learned elsewhere.

        Args:
            vectors: (vocab, width), row t for token t.

        Raises:
            ModelError: vectors of another shape, or an embedding that has no such table.
        """
        if tuple(vectors.shape) != (self.vocab, self.width):
            found, expected = tuple(vectors.shape), (self.vocab, self.width)
            raise ModelError("not the vectors of this vocabulary and width", found=found, expected=expected)
        self.fill(vectors)

    def fill(self, vectors: Tensor) -> None:
        """What `load` does with vectors of the right shape."""
        try:
            table = self.matrix()
        except ConfigError as error:
            what, remedy = "this embedding has no row for each token", "load into a table, or into one of the sources"
            raise ModelError(what, found=error.found, remedy=remedy) from None
        table.copy_(vectors)


EMBEDDINGS: Registry[Embedding] = Registry("embedding")


def require_rows(vocab: int, pad: int) -> None:
    """Refuse a vocabulary that does not even hold the padding token."""
    if pad >= vocab:
        found, remedy = f"{vocab} tokens, pad {pad}", "set source_vocab and target_vocab from the tokenizers"
        raise ConfigError("the vocabulary has no row for padding", found=found, remedy=remedy)


def new_table(rows: int, width: int) -> nn.Parameter:
    """Normal with variance 1 / width, (rows, width): scaled by sqrt(width) its features have variance 1."""
    return nn.Parameter(torch.randn(rows, width) * width**-0.5)
