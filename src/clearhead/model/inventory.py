"""Which parameters a model has, by group, and which of them are trained.

inventory(model)                                # {"decoder.*.attention": Group(parameters=..., trained=...), ...}
freeze(model, ["encoder", "*.embedding"])       # these stay as they are
thaw(model, ["encoder.blocks.5"])               # and these learn again

A group is the name of a module or of a parameter, and everything inside it belongs to it; `*` stands for any part of a
name. Buffers, such as the running averages of batchnorm, are no parameters: a frozen norm still follows its batches
unless it is in eval mode.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from clearhead.core.errors import ModelError
from clearhead.core.registry import nearest

SIDES = ("encoder", "decoder")  # whose parts are groups of their own


@dataclass
class Group:
    """Parameters of one group, in elements."""

    parameters: int = 0
    trained: int = 0  # of them, those that are not frozen


def inventory(model: nn.Module) -> dict[str, Group]:
    """Each group with its size, blocks of one kind together; every key is a name that `freeze` takes.

    A parameter that several modules share counts once, in the first that has it; so the sizes add up to the model's.
    """
    return {
        name: Group(
            parameters=sum(each.numel() for each in parameters),
            trained=sum(each.numel() for each in parameters if each.requires_grad),
        )
        for name, parameters in grouped(model).items()
    }


def grouped(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters of each group of the inventory."""
    groups: dict[str, list[nn.Parameter]] = {}
    for parameter, names in _owners(model).items():
        name = _group(next(each for each in names if "." in each or len(names) == 1))
        groups.setdefault(name, []).append(parameter)
    return groups


def freeze(model: nn.Module, groups: Iterable[str]) -> None:
    """Keep all parameters of these groups as they are: no gradient is computed for them, and no optimiser moves them.

    A shared parameter is frozen by any of its names: `encoder.embedding` freezes a table that is the output too.

    Raises:
        ModelError: a name matches nothing; the nearest one is told, and nothing is frozen.
    """
    for parameter in _members(model, groups):
        parameter.requires_grad, parameter.grad = False, None


def thaw(model: nn.Module, groups: Iterable[str]) -> None:
    """The opposite of `freeze`: these groups are trained; a new optimiser has to be made for them."""
    for parameter in _members(model, groups):
        parameter.requires_grad = True


def _owners(model: nn.Module) -> dict[nn.Parameter, list[str]]:
    """All names of each parameter."""
    owners: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(parameter, []).append(name)
    return owners


def _members(model: nn.Module, groups: Iterable[str]) -> list[nn.Parameter]:
    owners = _owners(model)
    found = []
    for group in groups:
        members = [parameter for parameter, names in owners.items() if any(_within(each, group) for each in names)]
        if not members:
            known = sorted({_pattern(path) for names in owners.values() for name in names for path in _paths(name)})
            remedy = nearest(group, known) or f"one of {', '.join(inventory(model))}"
            raise ModelError(f"the model has no group of parameters {group!r}", remedy=remedy)
        found += members
    return found


def _within(name: str, group: str) -> bool:
    return any(fnmatchcase(each, group) for each in _paths(name))


def _paths(name: str) -> list[str]:
    """A parameter's name and those of the modules around it: a, a.b, a.b.weight."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _pattern(path: str) -> str:
    """`decoder.blocks.3.attention` -> `decoder.*.attention`: any block; `decoder.starts.0` -> `decoder.starts`."""
    parts = path.split(".")
    place = next((index for index, each in enumerate(parts) if each.isdigit()), None)
    if place is None:
        return path
    inner = parts[place + 1 :]
    return ".".join([*parts[: place - 1], "*", *inner] if inner else parts[:place])


def _group(name: str) -> str:
    """The group of a parameter in the inventory: `decoder.*.attention`, `decoder.embedding`, `head`."""
    parts = _pattern(name.rpartition(".")[0] or name).split(".")
    if parts[0] not in SIDES:
        return parts[0]
    return ".".join(parts[: 3 if "*" in parts else 2])
