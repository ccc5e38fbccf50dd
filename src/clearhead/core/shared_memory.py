"""Memory that processes of one machine have in common: a file without a name and without a disk, mapped by all.

It is a memfd of Linux, found by the others under the first process's folder of /proc. So it has neither the limit nor
the name of /dev/shm, and goes when the last process goes, however that ends.
"""

import mmap
import os
from contextlib import suppress
from pathlib import Path

from clearhead.core.errors import ConfigError
from clearhead.core.processes import World, local_size

PROOF = 16  # random bytes at the end, by which the others know that it is the first one's memory


def known() -> bool:
    """Whether this system has such memory."""
    return hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()


def may_share(world: World) -> bool:
    """Whether all processes run on one machine and see each other's memory. Collective."""
    if not all(world.gather(local_size() == world.size)):
        return False
    try:
        common_memory(world, 1).close()
    except ConfigError:
        return False
    return True


def common_memory(world: World, size: int) -> mmap.mmap:
    """The same `size` bytes, zeros at first, in every process. Collective.

    Raises:
        ConfigError: in all processes, if one of them cannot see the memory of the first.
    """
    proof, handle = os.urandom(PROOF), -1
    memory = None
    if world.first and known():
        with suppress(OSError):
            handle = os.memfd_create("clearhead")
            os.ftruncate(handle, size + PROOF)
            memory = mmap.mmap(handle, size + PROOF)
            memory[size:] = proof
    pid, number, expected = world.gather((os.getpid(), handle, proof))[0]
    if not world.first:
        memory = _opened(f"/proc/{pid}/fd/{number}", size + PROOF)
    seen = world.gather(memory is not None and memory[size:] == expected)
    if handle >= 0:
        os.close(handle)
    if memory is None or not all(seen):
        missing = [rank for rank, sees in enumerate(seen) if not sees]
        found = f"process {missing[0]} does not see the memory of process 0"
        remedy = "choose train.parallel replicate"
        raise ConfigError("processes have no memory in common", found=found, remedy=remedy)
    return memory


def _opened(path: str, size: int) -> mmap.mmap | None:
    """A file of /proc mapped; None if it cannot be."""
    with suppress(OSError, ValueError):
        handle = os.open(path, os.O_RDWR)
        try:
            return mmap.mmap(handle, size)
        finally:
            os.close(handle)
    return None
