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


def torch_states() -> dict[str, Tensor]:
    """The states of torch's generators (dropout draws from them), as uint8 tensors by device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{i}": each for i, each in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_torch_states(states: dict[str, Tensor]) -> None:
    """Put back what `torch_states` returned; states of devices that are not here are left out."""
    torch.set_rng_state(states["cpu"])
    for name, state in states.items():
        if name.startswith("cuda:") and int(name[5:]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, name)
