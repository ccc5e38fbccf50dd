"""Embeddings from several sources (Kiela et al., 2018, arXiv:1804.07983): their sum, a map of them all, or a gate."""

from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from clearhead.core.registry import Choice
from clearhead.model.embedding.base import EMBEDDINGS, Embedding

Source = Annotated[Choice, AfterValidator(EMBEDDINGS.check)]
TABLES = (Choice(kind="table"), Choice(kind="hashed"))


class Sum(nn.Module):
    """The sum of all sources."""

    def __init__(self, count: int, d_model: int) -> None:
        super().__init__()

    def forward(self, vectors: Tensor) -> Tensor:
        """(batch, length, sources, d_model) -> (batch, length, d_model)."""
        return vectors.sum(dim=-2)


class Concatenation(nn.Module):
    """One linear map of all sources side by side."""

    def __init__(self, count: int, d_model: int) -> None:
        super().__init__()
        self.linear = nn.Linear(count * d_model, d_model, bias=False)
        nn.init.xavier_uniform_(self.linear.weight)

    def forward(self, vectors: Tensor) -> Tensor:
        joined: Tensor = self.linear(vectors.flatten(-2))
        return joined


class Gate(nn.Module):
    """A mean of the sources, weighted for each token by a softmax of one score for each source."""

    def __init__(self, count: int, d_model: int) -> None:
        super().__init__()
        self.score = nn.Parameter(torch.randn(count, d_model) * d_model**-0.5)  # (sources, d_model)

    def forward(self, vectors: Tensor) -> Tensor:
        weights = (vectors * self.score).sum(dim=-1, keepdim=True).softmax(dim=-2)  # (batch, length, sources, 1)
        return (weights * vectors).sum(dim=-2)


JOINS: dict[str, type[Sum | Concatenation | Gate]] = {"sum": Sum, "concat": Concatenation, "gate": Gate}


@EMBEDDINGS.register("sources")
class Sources(Embedding):
    """Several embeddings of the same tokens as one.

    Args:
        sources: embeddings by name, with their options.
        join: how their vectors become one.
    """

    def __init__(
        self,
        vocab: int,
        d_model: int,
        pad: int,
        *,
        sources: Annotated[tuple[Source, ...], Field(min_length=1)] = TABLES,
        join: Literal["sum", "concat", "gate"] = "concat",
    ) -> None:
        super().__init__(vocab, d_model, pad)
        self.sources = nn.ModuleList(EMBEDDINGS.build(each, vocab, d_model, pad) for each in sources)
        self.join = JOINS[join](len(sources), d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = [_projected(each, tokens) for each in self.sources]  # each (batch, length, d_model)
        joined: Tensor = self.join(torch.stack(vectors, dim=-2))
        return joined


def _projected(source: nn.Module, tokens: Tensor) -> Tensor:
    assert isinstance(source, Embedding)
    return source.project(source(tokens))
