"""Memory that processes have in common, or a clear refusal; tests/train trains with it."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from clearhead.core.errors import ConfigError
from clearhead.core.processes import World
from clearhead.core.shared_memory import common_memory, may_share

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="a memfd is Linux's")


@dataclass(frozen=True)
class Alone(World):
    """One process of several; the others' values are made up."""

    told: tuple = ()  # by process 0, to another process
    sees: tuple = ()  # what the others see

    def gather(self, value):
        others = list(self.sees) if isinstance(value, bool) else [self.told]
        return [value, *others] if self.first else [*others, value]


def handles() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


def test_the_first_process_makes_memory_of_zeros_that_leaves_no_file_behind():
    before = handles()
    memory = common_memory(Alone(0, 2, sees=(True,)), 100)
    assert bytes(memory[:100]) == bytes(100)
    memory[99] = 7
    memory.close()
    assert len(handles()) == len(before)


def test_another_process_maps_the_same_memory():
    handle = os.memfd_create("test")
    os.write(handle, bytes(100) + b"p" * 16)
    memory = common_memory(Alone(1, 2, told=(os.getpid(), handle, b"p" * 16), sees=(True,)), 100)
    memory[5] = 9
    assert os.pread(handle, 1, 5) == b"\x09"
    memory.close()
    os.close(handle)


@pytest.mark.parametrize("number", [10_000, 0])
def test_memory_that_is_not_the_first_ones_is_refused(number):
    other = Alone(1, 2, told=(os.getpid(), number, b"p" * 16), sees=(True,))
    with pytest.raises(ConfigError, match=r"process 1 does not see the memory of process 0.*replicate"):
        common_memory(other, 100)


def test_all_processes_refuse_when_one_does_not_see_it():
    with pytest.raises(ConfigError, match="process 1 does not see the memory of process 0"):
        common_memory(Alone(0, 2, sees=(False,)), 100)


def test_memory_that_cannot_be_made_is_refused(monkeypatch):
    def full(*given):
        raise OSError("no space")

    monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(ConfigError, match="process 0 does not see"):
        common_memory(Alone(0, 2, sees=(True,)), 100)


@pytest.mark.parametrize(("local", "sees", "expected"), [("2", True, True), ("2", False, False), ("1", True, False)])
def test_processes_may_share_if_they_are_on_one_machine_and_see_it(monkeypatch, local, sees, expected):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert may_share(Alone(0, 2, sees=(sees,))) is expected
