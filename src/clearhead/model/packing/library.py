"""step/step.c as a shared library: compiled once for this processor, by the system's C compiler, and kept.

Without a compiler, or with CLEARHEAD_COMPILER=none, there is no library and PyTorch does the work, more slowly.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from clearhead.core.openmp import beside_torch

SOURCE = Path(__file__).parent / "step" / "step.c"
CHOICE = "CLEARHEAD_COMPILER"  # the command of a C compiler, such as `clang`; "none" for none
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fPIC", "-w")
SECONDS = 120  # that a compiler may take


def library() -> ctypes.CDLL | None:
    """The compiled step; None if it cannot be had, which `why_not` tells."""
    return _found()[0]


def why_not() -> str | None:
    """Why there is no library, in one line; None where there is one."""
    return _found()[1]


@cache
def _found() -> tuple[ctypes.CDLL | None, str | None]:
    command = os.environ.get(CHOICE) or next(filter(shutil.which, ("cc", "gcc", "clang")), "none")
    if command == "none":
        return None, "no C compiler" if not os.environ.get(CHOICE) else f"{CHOICE}=none"
    try:
        return _declared(ctypes.CDLL(str(_compiled(shlex.split(command))))), None
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        return (
            None,
            f"{command} could not compile {SOURCE.name}: {told.strip().splitlines()[-1] if told.strip() else ''}",
        )


def _compiled(compiler: list[str]) -> Path:
    """The file of the library, made if it is not there."""
    name = f"step-{_fingerprint(compiler)}.so"
    try:
        folder = _cache()
        if (folder / name).is_file():
            return folder / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _built(compiler, folder, name)
    except (OSError, RuntimeError):  # not writable, or the user has no home: compiled for this process alone
        return _built(compiler, Path(tempfile.mkdtemp(prefix="clearhead-")), name)


def _built(compiler: list[str], folder: Path, name: str) -> Path:
    with tempfile.TemporaryDirectory(dir=folder) as work:
        half, whole = Path(work) / "step.o", Path(work) / name
        threads = _threads()
        try:
            _run([*compiler, *FLAGS, *threads[:1], "-c", str(SOURCE), "-o", str(half)])
        except subprocess.CalledProcessError:  # a compiler without OpenMP
            threads = []
            _run([*compiler, *FLAGS, "-c", str(SOURCE), "-o", str(half)])
        _run([*compiler, "-shared", str(half), "-o", str(whole), *threads[1:], "-lm"])
        return whole.replace(folder / name)  # at once: another process may be waiting for it


def _threads() -> list[str]:
    """How to compile and how to link with OpenMP: with PyTorch's own copy, so that both share their threads."""
    return ["-fopenmp", str(beside_torch() or "-fopenmp")]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "clearhead"


def _fingerprint(compiler: list[str]) -> str:
    """Changes with all that the library depends on: source, flags, compiler, processor, PyTorch's threads."""
    version = subprocess.run([*compiler, "--version"], check=True, capture_output=True, text=True, timeout=SECONDS)
    sources = [each.read_text(encoding="utf-8") for each in sorted(SOURCE.parent.glob("*.[ch]"))]
    parts = (*sources, *FLAGS, *_threads(), version.stdout, platform.machine(), _processor())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """The instructions that this processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((each for each in lines if each.startswith(("flags", "Features"))), platform.processor())


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
