"""Counts what is really computed: arithmetic operations and the largest tensor, by listening to every torch call."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")
FREE = (
    "view",
    "expand",
    "t",
    "transpose",
    "permute",
    "unsqueeze",
    "squeeze",
    "detach",
    "alias",
    "_unsafe_view",
    "select",
)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`with Operations() as counted:` then counted.operations (multiply-adds count two) and counted.largest (bytes)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0
        self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if isinstance(found, Tensor) and name not in FREE:
            inner = _inner(args) if name in PRODUCTS else 0
            self.operations += found.numel() * (2 * inner if inner else 1)
            self.largest = max(self.largest, found.numel() * found.element_size())
        return found


def counted(compute: Callable[[], object]) -> Operations:
    """What a computation takes."""
    counter = Operations()
    with counter, torch.no_grad():
        compute()
    return counter


def _inner(args: Sequence[Any]) -> int:
    """The size that a matrix product sums over."""
    tensors = [each for each in args if isinstance(each, Tensor)]
    return int(tensors[-2].shape[-1])
