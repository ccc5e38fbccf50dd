"""Seeds: one number in the recipe, one independent stream for each purpose, and all states for a resume."""

import hashlib
import random

import numpy as np
import torch
from torch import Tensor


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose, e.g. `derive(42, "order", epoch)`; the same on every machine."""
    text = "/".join(str(each) for each in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *purpose: object) -> np.random.Generator:
    """A numpy generator of its own for one purpose."""
    return np.random.Generator(np.random.PCG64(derive(seed, *purpose)))


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def torch_states(rank: int = 0) -> dict[str, Tensor]:
    """The states of torch's generators (dropout draws from them) in process `rank`, as uint8 tensors by device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return {_named(name, rank): state for name, state in states.items()}


def restore_torch_states(states: dict[str, Tensor], rank: int = 0) -> None:
    """Put back what `torch_states` returned in process `rank`; a process that did not exist stays as it is."""
    if rank == 0 or _named("cpu", rank) in states:
        torch.set_rng_state(states[_named("cpu", rank)])
    if _named("cuda", rank) in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states[_named("cuda", rank)])


def _named(device: str, rank: int) -> str:
    return f"{device}/{rank}" if rank else device
