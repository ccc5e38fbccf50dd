"""Where and how precisely to compute: device, number format and threads, chosen by what the machine has."""

import contextlib
import os
import time
from typing import Literal

import torch

from clearhead.core.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16"]
Shape = tuple[int, int, int]  # rows, inner, columns of a matrix product
USUAL: Shape = (2048, 256, 1024)
GAIN = 1.4  # how many times as fast bfloat16 must be, as not all of a step is matrix products


def pick_device(name: str = "auto") -> torch.device:
    """`auto` takes CUDA, then Apple's MPS, then the CPU; any other name is taken as it is."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ConfigError("this device cannot be used here", found=repr(name), remedy="use auto or cpu") from None
    return device


def pick_dtype(precision: Precision, device: torch.device, shape: Shape = USUAL) -> torch.dtype:
    """The number format of the matrix products; `auto` takes bfloat16 only where it is measured to be faster.

    Args:
        precision: as the recipe says.
        device: that computes.
        shape: rows, inner and columns of the product that is measured; a small one gains less.
    """
    if precision == "float32" or device.type == "mps":
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    return torch.bfloat16 if bfloat16_gain(device, shape) > GAIN else torch.float32


def bfloat16_gain(device: torch.device, shape: Shape = USUAL) -> float:
    """How many times as fast a matrix product is in bfloat16 as in float32, the casts of autocast included.

    On one thread: with several, a busy neighbour on one core would decide.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        slow, fast = (cast_matmul_seconds(dtype, device, shape) for dtype in (torch.float32, torch.bfloat16))
        return slow / fast
    finally:
        torch.set_num_threads(threads)


def matmul_seconds(dtype: torch.dtype, rows: int = 2048, inner: int = 256, columns: int = 1024) -> float:
    """Seconds of the fastest of ten matrix products (rows, inner) x (inner, columns) on the CPU."""
    left, right = torch.ones(rows, inner, dtype=dtype), torch.ones(inner, columns, dtype=dtype)
    return min(_timed(left, right, dtype) for _ in range(10))


def cast_matmul_seconds(dtype: torch.dtype, device: torch.device, shape: Shape) -> float:
    """The same on any device, with factors in float32 that are cast to `dtype` each time."""
    rows, inner, columns = shape
    left, right = torch.ones(rows, inner, device=device), torch.ones(inner, columns, device=device)
    return min(_timed(left, right, dtype) for _ in range(10))


def _timed(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> float:
    _finish(left.device)
    start = time.perf_counter()
    left.to(dtype) @ right.to(dtype)
    _finish(left.device)
    return time.perf_counter() - start


def _finish(device: torch.device) -> None:
    """Wait for a GPU, which otherwise computes while the clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """Matrix products in `dtype` inside the block; nothing changes for float32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def set_threads(count: int) -> int:
    """Use `count` CPU threads (0 = one for each core that this process may use) and return the number."""
    torch.set_num_threads(count or cores())
    return torch.get_num_threads()


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
