"""Which GPU a process takes, and what it knows of the others before they meet."""

import pytest
import torch

from clearhead.core.errors import ConfigError
from clearhead.core.processes import local_size, own_device


@pytest.fixture
def four_gpus(monkeypatch):
    """A machine with four GPUs; the list of those that were made the current one."""
    taken = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    return taken


@pytest.mark.parametrize("rank", range(4))
def test_each_of_several_processes_takes_the_gpu_of_its_number(monkeypatch, four_gpus, rank):
    monkeypatch.setenv("WORLD_SIZE", "8")  # on two machines
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    assert own_device(torch.device("cuda")) == torch.device("cuda", rank)
    assert four_gpus == [torch.device("cuda", rank)]


@pytest.mark.parametrize("device", ["cpu", "cuda:2"])
def test_what_a_recipe_names_is_taken_as_it_is(monkeypatch, four_gpus, device):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device(torch.device(device)) == torch.device(device)
    assert not four_gpus


def test_a_process_alone_takes_the_current_gpu(monkeypatch, four_gpus):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert own_device(torch.device("cuda")) == torch.device("cuda")
    assert not four_gpus


def test_more_processes_than_gpus_are_refused(monkeypatch, four_gpus):
    monkeypatch.setenv("WORLD_SIZE", "5")
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(ConfigError, match="process 5 on this machine, 4 GPUs"):
        own_device(torch.device("cuda"))


def test_cores_are_shared_by_the_processes_of_one_machine_only(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert local_size() == 1  # one pod is one process
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert local_size() == 4
