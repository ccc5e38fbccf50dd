"""The weights in a folder of the transformers library: one safetensors file or several; pickles only if allowed."""

import warnings
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from clearhead.bundle.weights import read_weights
from clearhead.core.errors import BundleError
from clearhead.core.files import read_json

INDEX = ".index.json"  # beside weights in several files: which file has which tensor
SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"


def read_checkpoint(folder: Path, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """All tensors by name.

    Args:
        folder: what holds them.
        allow_pickle: read pickled weights where there are no others. torch's restricted reader builds nothing but
            tensors from them; still, a pickle from a stranger is a program.

    Raises:
        BundleError: no weights, pickled ones that are not allowed, or a damaged or missing file.
    """
    if (folder / SAFE).is_file() or (folder / (SAFE + INDEX)).is_file():
        return _read(folder, SAFE, read_weights)
    if not (folder / PICKLED).is_file() and not (folder / (PICKLED + INDEX)).is_file():
        raise BundleError("no weights in this folder", where=folder, expected=f"{SAFE} or {SAFE}{INDEX}")
    if not allow_pickle:
        remedy = "convert them to safetensors, or allow it with --allow-pickle if you trust where they come from"
        raise BundleError("the weights are pickled, and a pickle can run code", where=folder / PICKLED, remedy=remedy)
    return _read(folder, PICKLED, _unpickled)


def _read(folder: Path, name: str, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    if (folder / name).is_file():
        return read(folder / name)
    index = folder / (name + INDEX)
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(_weight_map(index).values())):
        tensors |= read(folder / file)
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    document: Any = read_json(index, BundleError)
    found = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise BundleError("damaged index of weights", where=index, expected="a weight_map of names and files")
    for file in found.values():
        if Path(file).name != file:
            raise BundleError("an index of weights may name only files beside it", where=index, found=file)
    return found


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to torch's developers
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BundleError("no such file", where=path) from None
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as problem:
        raise BundleError("not weights that can be read", where=path, found=str(problem).splitlines()[0]) from None
    if not isinstance(tensors, dict) or not all(isinstance(each, Tensor) for each in tensors.values()):
        raise BundleError("not a table of tensors", where=path, found=type(tensors).__name__)
    return dict(tensors)
