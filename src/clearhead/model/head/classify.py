"""Scores of labels: one decision for a sequence, or one for each of its tokens."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from clearhead.model.activations import ACTIVATIONS, Activation
from clearhead.model.dropout import Dropout
from clearhead.model.head.base import HEADS, Head, Surroundings, new_linear, new_matrix

Labels = Annotated[int, Field(gt=0)]


class Labelling(Head):
    """dropout, dense map with activation, dropout, linear map to labels; `dense: none` leaves the first two out."""

    def __init__(self, around: Surroundings, *, labels: int, dense: Activation, bias: bool) -> None:
        super().__init__(around)
        self.activation = dense
        wide = nn.Sequential(Dropout(around.dropout), new_linear(around.d_model, around.d_model))
        self.dense = nn.Identity() if dense == "none" else wide
        self.dropout = Dropout(around.dropout)
        self.finish(new_matrix(labels, around.d_model), bias=bias)

    def features(self, hidden: Tensor) -> Tensor:
        """(..., d_model) -> the same shape."""
        features: Tensor = self.dropout(ACTIVATIONS[self.activation](self.dense(hidden)))
        return features


@HEADS.register("tokens")
class Tokens(Labelling):
    """A decision for each token: names and parts of speech, or with one label ELECTRA's "was it replaced?".

    Clark et al., 2020, arXiv:2003.10555.

    Args:
        labels: how many scores.
        dense: activation of a dense map before the last one, or none.
        bias: of the last linear map.
    """

    def __init__(self, around: Surroundings, *, labels: Labels, dense: Activation = "none", bias: bool = True) -> None:
        super().__init__(around, labels=labels, dense=dense, bias=bias)

    def transform(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        return self.features(hidden)


@HEADS.register("classify")
class Classify(Labelling):
    """A decision for each sequence (BERT: first token, a dense map with tanh; GPT-2: last token, dense: none).

    Args:
        labels: how many scores; 1 for a regression.
        pooling: which vector stands for the sequence.
        dense: activation of a dense map before the last one, or none.
        bias: of the last linear map.
    """

    def __init__(
        self,
        around: Surroundings,
        *,
        labels: Labels,
        pooling: Literal["first", "last", "mean", "max"] = "first",
        dense: Activation = "tanh",
        bias: bool = True,
    ) -> None:
        super().__init__(around, labels=labels, dense=dense, bias=bias)
        self.pooling = pooling

    def transform(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        everywhere = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        return self.features(POOLINGS[self.pooling](hidden, everywhere if valid is None else valid))


def _first(hidden: Tensor, valid: Tensor) -> Tensor:
    """The first valid token of each row, (batch, d_model)."""
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), valid.int().argmax(dim=1)]


def _last(hidden: Tensor, valid: Tensor) -> Tensor:
    """The last valid token of each row, (batch, d_model)."""
    return _first(hidden.flip(1), valid.flip(1))


def _mean(hidden: Tensor, valid: Tensor) -> Tensor:
    """The mean over the valid tokens of each row, (batch, d_model)."""
    kept = hidden.masked_fill(~valid[..., None], 0)
    return kept.sum(dim=1) / valid.sum(dim=1, keepdim=True).clamp(min=1).to(hidden.dtype)


def _max(hidden: Tensor, valid: Tensor) -> Tensor:
    """The largest value of each feature over the valid tokens, (batch, d_model)."""
    return hidden.masked_fill(~valid[..., None], -torch.inf).amax(dim=1)


POOLINGS = {"first": _first, "last": _last, "mean": _mean, "max": _max}
