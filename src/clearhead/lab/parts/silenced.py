"""Take a part out of a model without touching the rest: it is called as ever and says nothing."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def silenced(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Inside the block each of these modules returns zeros in place of its output."""
    hooks = [each.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output)) for each in modules]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()
