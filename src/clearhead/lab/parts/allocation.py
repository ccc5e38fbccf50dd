"""The most bytes that tensors hold at once while something is computed, counted at each operation."""

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocation(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that come into being inside it, until they are given back; nothing else is seen."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {each.untyped_storage()._cdata for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, Tensor) and each.untyped_storage()._cdata not in given | self.known:
                self._took(each)
        return out

    def _took(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        size, key = storage.nbytes(), storage._cdata
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gave, key, size)

    def _gave(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def peak_bytes(compute: Callable[[], Tensor]) -> int:
    """The most bytes held at once by what `compute` makes, its result included, its inputs not."""
    allocation = Allocation()
    with allocation:
        compute()
    return allocation.peak
