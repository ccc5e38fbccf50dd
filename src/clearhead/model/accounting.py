"""Parameters by component, counted on a model that takes no memory."""

from collections import Counter

import torch

from clearhead.model.config import ModelConfig
from clearhead.model.transformer import Transformer

COMPONENTS = ("embedding", "attention", "cross", "feedforward", "residual", "last", "output")


def parameters(config: ModelConfig) -> dict[str, int]:
    """Number of parameters of each component and in total; a tied table counts once, as embedding."""
    with torch.device("meta"):
        model = Transformer(config)
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        tied = name == "output" and config.tie != "none"
        counts[f"{'embedding' if tied else _component(name)}_parameters"] += parameter.numel()
    return {**counts, "parameters": counts.total()}


def _component(name: str) -> str:
    """`encoder.blocks.0.attention.output.weight` belongs to attention, a residual's norm to norm."""
    if "residual" in name or ".last." in name:
        return "norm"
    return next(each for each in COMPONENTS if each in name.split("."))
