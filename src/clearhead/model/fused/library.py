"""source/fused.c, compiled, and its structures."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from clearhead.core.compiler import compiled

SOURCE = Path(__file__).parent / "source" / "fused.c"
HEADERS = Path(__file__).parent.parent / "packing" / "step"
DTYPES = (torch.float32, torch.bfloat16)
ENOUGH = 1 << 14  # elements that are worth a thread

address, number, small = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32


class Rows(ctypes.Structure):
    """(batch, heads, rows, features) of a tensor whose features lie side by side."""

    _fields_ = (
        ("at", address),
        ("batch", number),
        ("head", number),
        ("row", number),
        ("half", small),
        ("unused", small),
    )

    @classmethod
    def of(cls, tensor: Tensor) -> "Rows":
        """A view; the tensor has to live for as long as it is used."""
        return cls(tensor.data_ptr(), *tensor.stride()[:3], tensor.dtype == torch.bfloat16, 0)


class Attention(ctypes.Structure):
    """See attention.h."""

    _fields_ = (
        *((name, Rows) for name in ("query", "key", "value", "out")),
        *((name, Rows) for name in ("slope", "query_slope", "key_slope", "value_slope")),
        ("seen", address),
        *((f"seen_{name}", number) for name in ("batch", "head", "row", "column")),
        ("sums", address),
        *((name, number) for name in ("batch", "heads", "queries", "keys", "features")),
        ("scale", ctypes.c_float),
        ("unused", small),
    )


class Rotation(ctypes.Structure):
    """See rotating.h."""

    _fields_ = (
        ("states", Rows),
        ("out", Rows),
        ("own", address),
        ("partner", address),
        ("table_batch", number),
        *((name, number) for name in ("batch", "heads", "rows", "features")),
        ("table_half", small),
        ("back", small),
    )


class Joining(ctypes.Structure):
    """See joining.h."""

    _fields_ = (
        *((name, address) for name in ("hidden", "update", "gain", "bias", "out", "sum", "moments")),
        *((name, address) for name in ("slope", "hidden_slope", "update_slope", "shares")),
        ("tokens", number),
        ("features", number),
        ("seed", ctypes.c_uint64),
        ("rate", ctypes.c_float),
        ("unused_of_drop", small),
        ("epsilon", ctypes.c_float),
        ("half", small),
        ("half_out", small),
        ("unused", small),
    )


class Slopes(ctypes.Structure):
    """See slopes.h."""

    _fields_ = (
        *((name, address) for name in ("logits", "labels", "lost", "theirs", "apart")),
        ("rows", number),
        ("words", number),
        ("own_share", ctypes.c_float),
        ("their_share", ctypes.c_float),
        ("half", small),
        ("unused", small),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None if they cannot be had, which `why_not` tells."""
    found = compiled(SOURCE, HEADERS)[0]
    if found is not None:
        found.clearhead_attend.argtypes, found.clearhead_attend.restype = [address, number, number], number
        found.clearhead_join.argtypes, found.clearhead_join.restype = [address, number, number], None
        found.clearhead_slopes.argtypes, found.clearhead_slopes.restype = [address, number], number
        found.clearhead_rotate.argtypes, found.clearhead_rotate.restype = [address, number], None
        found.clearhead_fused_sizes.argtypes, found.clearhead_fused_sizes.restype = [address], None
    return found


def why_not() -> str | None:
    """Why there is no library, in one line; None where there is one."""
    return compiled(SOURCE, HEADERS)[1]


def ready(*tensors: Tensor) -> bool:
    """Whether these can be worked on: on a CPU, in float32 or bfloat16, not while a graph is traced."""
    plain = all(each.device.type == "cpu" and each.dtype in DTYPES for each in tensors)
    return plain and not torch.compiler.is_compiling() and library() is not None


def by_rows(states: Tensor) -> Tensor:
    """The same with features side by side."""
    return states if states.stride(3) == 1 else states.contiguous()


def rows_like(states: Tensor, dtype: torch.dtype) -> Tensor:
    """(batch, heads, rows, features), in memory (batch, rows, heads, features): joining the heads costs nothing."""
    batch, heads, rows, features = states.shape
    return states.new_empty(batch, rows, heads, features, dtype=dtype).transpose(1, 2)


def threads_for(elements: int) -> int:
    """How many threads are worth while for so many elements."""
    return max(1, min(torch.get_num_threads(), elements // ENOUGH))
