"""What the models that an engine knows are, in data: rules and entries as in an architecture, written only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clearhead.bundle.exchange.flat import Flat
from clearhead.bundle.exchange.rules import Free, Rule, Theirs
from clearhead.bundle.exchange.tensors import Form
from clearhead.core.errors import BundleError
from clearhead.model import ModelConfig
from clearhead.model.attention import INITIALISATIONS


@dataclass(frozen=True)
class Says:
    """A fact that a function puts into their words; no file of theirs is read."""

    ours: tuple[str, ...]
    words: Callable[[Mapping[str, Any]], dict[str, Any]]

    def read(self, theirs: Theirs) -> Flat:
        return {}

    def write(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        return self.words(ours)


def says(theirs: str, name: str, codes: Mapping[Any, Any] | None = None) -> Says:
    """The value of one of our keys as one of their words; `codes`: ours -> theirs."""

    def words(ours: Mapping[str, Any]) -> dict[str, Any]:
        return {theirs: ours[name] if codes is None else coded(name, ours[name], codes)}

    return Says((name,), words)


def coded(name: str, value: Any, codes: Mapping[Any, Any]) -> Any:
    """Their word for a value of ours; a BundleError where they have none."""
    if value not in codes:
        raise BundleError(f"{name} cannot be {value}", expected=f"one of {', '.join(map(str, codes))}")
    return codes[value]


BEGINNING = {option for name in INITIALISATIONS.names() for option in INITIALISATIONS.options(name)} | {"kind"}
ONLY_TRAINING: tuple[Rule, ...] = (
    Free({"dropout": 0.0, "attention_dropout": 0.0, "feedforward_dropout": 0.0}),
    Free(dict.fromkeys(f"qkv_initialisation.{option}" for option in sorted(BEGINNING))),
)
IN_WEIGHTS: tuple[Rule, ...] = (  # what the tensors themselves say
    Free(dict.fromkeys(("source_vocab", "target_vocab", "pad", "tie", "layer_groups", "shared", "d_model", "d_ff"))),
    Free(dict.fromkeys(("feedforward.two_thirds", "feedforward.multiple"))),
)


class QueriesApart(Form):
    """W_Q, and the rows of W_K and W_V together."""

    def split(self, tensor: Tensor, config: ModelConfig) -> list[Tensor]:
        query, key, value = config.sizes.rows
        return list(torch.split(tensor, [query, key + value]))


@dataclass(frozen=True)
class After(Form):
    """A table without its first rows."""

    rows: int

    def split(self, tensor: Tensor, config: ModelConfig) -> list[Tensor]:
        return [tensor[self.rows :]]


@dataclass(frozen=True)
class Copies(Form):
    """The same tensor under several names."""

    number: int

    def split(self, tensor: Tensor, config: ModelConfig) -> list[Tensor]:
        return [tensor] * self.number

    def join(self, parts: Sequence[Tensor], config: ModelConfig) -> Tensor:
        return parts[0]


QUERIES_APART = QueriesApart()
