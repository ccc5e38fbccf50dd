"""step/step.c, compiled: a decoder's step and a search in few calls."""

import ctypes
from functools import cache
from pathlib import Path

from clearhead.core.compiler import compiled

SOURCE = Path(__file__).parent / "step" / "step.c"


@cache
def library() -> ctypes.CDLL | None:
    """The compiled step; None if it cannot be had, which `why_not` tells."""
    found = compiled(SOURCE)[0]
    return None if found is None else _declared(found)


def why_not() -> str | None:
    """Why there is no library, in one line; None where there is one."""
    return compiled(SOURCE)[1]


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    """The same with the types of its functions; each call releases Python's lock."""
    address, number = ctypes.c_void_p, ctypes.c_int64
    found.clearhead_work.argtypes, found.clearhead_work.restype = [address, address, address], number
    found.clearhead_embed.argtypes, found.clearhead_embed.restype = [address, address, number], number
    found.clearhead_step.argtypes, found.clearhead_step.restype = [address, address], None
    found.clearhead_search.argtypes, found.clearhead_search.restype = [address, address, address], number
    found.clearhead_sizes.argtypes, found.clearhead_sizes.restype = [address], None
    found.clearhead_multiply.argtypes = [address, address, number, address, address, number]
    found.clearhead_multiply.restype = None
    found.clearhead_log_sums.argtypes = [address, number, number, address, number]
    found.clearhead_log_sums.restype = None
    found.clearhead_largest.argtypes = [address, number, number, number, address, address, number]
    found.clearhead_largest.restype = None
    return found
