"""Weights as safetensors: tied tensors once, every name and shape checked, never a pickle."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from clearhead.core.errors import BundleError, ClearheadError
from clearhead.core.files import write_atomic


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and lasting buffers by name; a tensor with several names stands under its first."""
    named = dict(model.named_parameters())
    aliases = {name for name, _ in model.named_parameters(remove_duplicate=False)} - named.keys()
    buffers = {name: each for name, each in model.state_dict().items() if name not in named | dict.fromkeys(aliases)}
    return {name: each.detach() for name, each in {**named, **buffers}.items()}


def save_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file atomically."""
    plain = {name: each.detach().cpu().contiguous() for name, each in tensors.items()}
    write_atomic(path, save(plain, metadata={"format": "pt"}))


def read_weights(path: Path, error: type[ClearheadError] = BundleError) -> dict[str, Tensor]:
    """Read a safetensors file; one line of the given error if it is missing, cut off or something else."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise error("no such file", where=path) from None
    except (SafetensorError, OSError, ValueError) as problem:
        found = str(problem).removeprefix("Error while deserializing header: ")
        raise error("not a safetensors file, or cut off", where=path, found=found) from None


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Copy tensors into a model; missing, extra or misshapen ones are refused by name."""
    own = weights_of(model)
    for kind, names in (("missing", own.keys() - tensors.keys()), ("unknown", tensors.keys() - own.keys())):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            problem = f"{len(names)} {kind} tensors" if len(names) > 1 else f"a tensor is {kind}"
            remedy = "take config and weights from the same save"
            raise BundleError(problem, where=where, found=shown, remedy=remedy)
    for name, tensor in own.items():
        if tensor.is_floating_point() != tensors[name].is_floating_point():
            what = f"tensor {name} has another number format"
            raise BundleError(what, where=where, found=tensors[name].dtype, expected=tensor.dtype)
        if tensor.shape != tensors[name].shape:
            found, expected = tuple(tensors[name].shape), tuple(tensor.shape)
            raise BundleError(f"tensor {name} has another shape", where=where, found=found, expected=expected)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
