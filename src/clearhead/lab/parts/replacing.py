"""Put another part in the place of all parts of a kind in a model that is built."""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)
Part = TypeVar("Part", bound=nn.Module)


def replace_parts(model: Model, kind: type[Part], make: Callable[[Part], nn.Module]) -> Model:
    """Replace in place each part of exactly this class by what `make` gives for it; returns the model."""
    for name, module in list(model.named_modules()):
        if type(module) is kind:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, make(module))
    return model
