"""What is computed once for all blocks of a forward pass: the angles of a rotation, a bias by distance, a drawn mask.

Nothing of it is kept in a module. A pass makes its own `Once` and takes it along when it ends.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


class Anew:
    """Remembers nothing: every call computes."""

    def __call__(self, compute: Callable[..., Result], *inputs: Any) -> Result:
        """The result of `compute(*inputs)`."""
        return compute(*inputs)


class Once(Anew):
    """Remembers results. Inputs are the same if they are equal, and tensors if they are one and the same object.

    A compiler finds by itself what is computed twice, and its symbolic sizes cannot be compared: it sees every call.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Any] = {}

    def __call__(self, compute: Callable[..., Result], *inputs: Any) -> Result:
        if torch.compiler.is_compiling():
            return compute(*inputs)
        key = (compute, *inputs)  # the hash of a tensor is its identity; held here, it stays its own
        if key not in self._known:
            self._known[key] = compute(*inputs)
        result: Result = self._known[key]
        return result


ANEW = Anew()
