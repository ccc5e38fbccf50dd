"""Parameters by component, counted on a model that takes no memory."""

from collections import Counter, defaultdict

import torch
from torch.nn import Parameter

from clearhead.model.config import ModelConfig
from clearhead.model.transformer import Transformer

COMPONENTS = {  # the first of these in the name of a parameter or module tells its component
    "embedding": "embedding",
    "segments": "embedding",
    "position": "position",
    "attention": "attention",
    "cross": "cross",
    "feedforward": "feedforward",
    "attention_residual": "norm",
    "cross_residual": "norm",
    "feedforward_residual": "norm",
    "norm": "norm",
    "last": "norm",
    "head": "head",
}


def parameters(config: ModelConfig) -> dict[str, int]:
    """Number of parameters of each component; a table that several share counts once, as embedding."""
    owners: dict[Parameter, set[str]] = defaultdict(set)
    for name, parameter in skeleton(config).named_parameters(remove_duplicate=False):
        owners[parameter].add(component(name))
    counts: Counter[str] = Counter()
    for parameter, found in owners.items():
        counts["embedding" if "embedding" in found else min(found)] += parameter.numel()
    return dict(counts)


def component(name: str) -> str:
    """`encoder.blocks.0.attention.output.weight` belongs to attention; what no component claims to the body."""
    segments = name.split(".")
    rest = "embedding" if "embedding_sum" in segments else "head" if segments == ["output"] else "body"
    return next((COMPONENTS[each] for each in segments if each in COMPONENTS), rest)


def skeleton(config: ModelConfig) -> Transformer:
    """The model without a byte of weights."""
    with torch.device("meta"):
        return Transformer(config)
