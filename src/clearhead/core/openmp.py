"""The threads that help PyTorch on a CPU.

Each thread of Python that computes has helpers of its own, which stay with it for as long as it lives. Once there are
more of them than cores, GNU's OpenMP lets them sleep instead of wait at every turn, and short operators take nearly
twice as long. So whoever has computed, and will not soon do so again, lets its helpers go.
"""

from ctypes import CDLL
from functools import cache
from pathlib import Path

import torch

SOFT = 1  # omp_pause_soft: give threads back, keep settings (OpenMP 5.0, section 3.2.43)


def beside_torch() -> Path | None:
    """The OpenMP library that PyTorch brings along; None where it takes the system's or another one."""
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    return found[0] if found else None


def release_helpers() -> None:
    """Let this thread's helpers go; its next parallel work gets new ones. Not from within parallel work."""
    library = _library()
    if library is not None:
        library.omp_pause_resource_all(SOFT)


@cache
def _library() -> CDLL | None:
    path = beside_torch()
    library = None if path is None else CDLL(str(path))
    return library if hasattr(library, "omp_pause_resource_all") else None
