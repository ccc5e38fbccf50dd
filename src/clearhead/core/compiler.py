"""C sources as shared libraries: compiled once for this processor, by the system's C compiler, and kept.

Without a compiler, or with CLEARHEAD_COMPILER=none, there is no library, and PyTorch does the work, more slowly.
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

CHOICE = "CLEARHEAD_COMPILER"  # the command of a C compiler, such as `clang`; "none" for none
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fPIC", "-w")
SECONDS = 120  # that a compiler may take


@cache
def compiled(source: Path, *others: Path) -> tuple[ctypes.CDLL | None, str | None]:
    """The library of a source; None and why, in one line, where it cannot be had.

    Args:
        source: a file; all C files and headers beside it belong to it.
        others: folders of further headers that it includes.
    """
    command = os.environ.get(CHOICE) or next(filter(shutil.which, ("cc", "gcc", "clang")), "none")
    if command == "none":
        return None, "no C compiler" if not os.environ.get(CHOICE) else f"{CHOICE}=none"
    try:
        return ctypes.CDLL(str(library_file(shlex.split(command), source, *others))), None
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        told = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return None, f"{command} could not compile {source.name}: {told[-1] if told else ''}"


def library_file(compiler: list[str], source: Path, *others: Path) -> Path:
    """The file of the library, made if it is not there."""
    name = f"{source.stem}-{_fingerprint(compiler, source.parent, *others)}.so"
    try:
        folder = _cache()
        if (folder / name).is_file():
            return folder / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _built(compiler, source, folder, name)
    except (OSError, RuntimeError):  # not writable, or the user has no home: compiled for this process alone
        return _built(compiler, source, Path(tempfile.mkdtemp(prefix="clearhead-")), name)


def _built(compiler: list[str], source: Path, folder: Path, name: str) -> Path:
    with tempfile.TemporaryDirectory(dir=folder) as work:
        half, whole = Path(work) / "half.o", Path(work) / name
        threads = _threads()
        try:
            _run([*compiler, *FLAGS, *threads[:1], "-c", str(source), "-o", str(half)])
        except subprocess.CalledProcessError:  # a compiler without OpenMP
            threads = []
            _run([*compiler, *FLAGS, "-c", str(source), "-o", str(half)])
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


def _fingerprint(compiler: list[str], *folders: Path) -> str:
    """Changes with all that the library depends on: sources, flags, compiler, processor, PyTorch's threads."""
    version = subprocess.run([*compiler, "--version"], check=True, capture_output=True, text=True, timeout=SECONDS)
    sources = [each.read_text(encoding="utf-8") for folder in folders for each in sorted(folder.glob("*.[ch]"))]
    parts = (*sources, *compiler, *FLAGS, *_threads(), version.stdout, platform.machine(), _processor())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """The instructions that this processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((each for each in lines if each.startswith(("flags", "Features"))), platform.processor())
