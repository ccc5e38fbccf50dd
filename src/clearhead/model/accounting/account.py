"""The account of a model: one line for each component."""

from dataclasses import dataclass

from clearhead.model.accounting.activations import activation_bytes, sample
from clearhead.model.accounting.cost import Cost
from clearhead.model.accounting.flops import flops
from clearhead.model.accounting.parameters import parameters, skeleton
from clearhead.model.accounting.states import cache_elements
from clearhead.model.config import ModelConfig
from clearhead.model.transformer import Transformer

FLOAT = 4  # bytes of a number in float32
ORDER = ("embedding", "position", "attention", "cross", "feedforward", "body", "norm", "head")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one component costs; operations and bytes of activations and caches are those of one token.

    That is: of one sequence of `length` tokens on each side that the model has, divided by `length`.
    """

    parameters: int
    forward_flops: float
    backward_flops: float
    activation_bytes: float  # kept for the backward pass
    cache_bytes: float  # keys and values kept while generating
    optimizer_bytes: int  # states of all parameters


@dataclass(frozen=True)
class Account:
    """The lines of a model by component, and their sum."""

    length: int  # tokens of a sequence
    lines: dict[str, Line]
    total: Line


def account(config: ModelConfig, length: int, *, states: float = 2.0) -> Account:
    """What a model costs at a length, in float32.

    Args:
        config: with its vocabularies.
        length: tokens of a sequence on each side.
        states: numbers that the optimiser keeps for each parameter; Adam's two moments.
    """
    model = skeleton(config)
    source = _places(model, length)
    counts, costs = parameters(config), flops(model, source, length)
    activations, caches = activation_bytes(config, length), cache_elements(model, source, length)
    lines = {
        name: Line(
            parameters=counts.get(name, 0),
            forward_flops=costs.get(name, Cost()).forward / length,
            backward_flops=costs.get(name, Cost()).backward / length,
            activation_bytes=activations.get(name, 0) / length,
            cache_bytes=FLOAT * caches.get(name, 0) / length,
            optimizer_bytes=round(FLOAT * states * counts.get(name, 0)),
        )
        for name in ORDER
        if name in counts.keys() | activations.keys() or costs.get(name, Cost()).forward
    }
    return Account(length, lines, _sum(list(lines.values())))


def _places(model: Transformer, length: int) -> int:
    """Positions that a source takes; a picture has as many as it has patches."""
    source, _ = sample(model, length)
    return length if source is None else model.encoder.embedding.length(source)


def _sum(lines: list[Line]) -> Line:
    return Line(**{name: sum(getattr(each, name) for each in lines) for name in Line.__dataclass_fields__})
