"""Helpers of a thread go when they are let go, and come back when there is work."""

import subprocess
import sys
from pathlib import Path

import pytest

from clearhead.core.openmp import beside_torch

COUNTING = """
from pathlib import Path
import torch
from clearhead.core.openmp import release_helpers

def threads():
    return len(list(Path("/proc/self/task").iterdir()))

def work():
    return float((torch.ones(1000, 1000) + 1).sum())

torch.set_num_threads(3)
before = threads()
found = [work()]
busy = threads()
release_helpers()
release_helpers()
after = threads()
found.append(work())
print(before, busy, after, threads(), found)
"""


@pytest.mark.skipif(beside_torch() is None, reason="PyTorch brings no OpenMP library of GNU")
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads cannot be counted")
def test_helpers_go_and_come_back():
    done = subprocess.run([sys.executable, "-c", COUNTING], capture_output=True, text=True, check=True)
    before, busy, after, again, *found = done.stdout.split(maxsplit=4)
    assert int(busy) == int(before) + 2 == int(again)
    assert int(after) == int(before)
    assert found == ["[2000000.0, 2000000.0]\n"]
