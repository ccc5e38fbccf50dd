"""Where and how precisely to compute: device, number format and threads, chosen by what the machine has."""

import contextlib
import os
import time
from typing import Literal

import torch

from clearhead.core.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16"]


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


def pick_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The number format of the matrix products; `auto` takes bfloat16 only where it is measured to be faster."""
    if precision == "float32" or device.type == "mps":
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if _bfloat16_is_faster() else torch.float32


def _bfloat16_is_faster() -> bool:
    """By a wide margin, on one thread: with several, a busy neighbour on one core would decide."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return matmul_seconds(torch.bfloat16) < 0.7 * matmul_seconds(torch.float32)
    finally:
        torch.set_num_threads(threads)


def matmul_seconds(dtype: torch.dtype, rows: int = 2048, inner: int = 256, columns: int = 1024) -> float:
    """Seconds of the fastest of ten matrix products (rows, inner) x (inner, columns) on the CPU."""
    left, right = torch.ones(rows, inner, dtype=dtype), torch.ones(inner, columns, dtype=dtype)
    return min(_timed(left, right) for _ in range(10))


def _timed(left: torch.Tensor, right: torch.Tensor) -> float:
    start = time.perf_counter()
    left @ right
    return time.perf_counter() - start


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
