"""Their tensors to ours and back, by the entries of an architecture; what is missing, extra or misshapen by name."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from clearhead.bundle.exchange.architecture import Architecture
from clearhead.bundle.exchange.tensors import Entry
from clearhead.bundle.weights import load_weights, weights_of
from clearhead.core.errors import BundleError
from clearhead.model import ModelConfig, Transformer

Tensors = Mapping[str, Tensor]


def write_tensors(architecture: Architecture, model: Transformer) -> dict[str, Tensor]:
    """The tensors of a model under their names."""
    own, config = weights_of(model), model.config
    theirs: dict[str, Tensor] = {}
    for entry in _told(architecture, model)[0]:
        for name, tensor in zip(entry.theirs, entry.form.split(own[entry.ours], config), strict=True):
            _refuse_two_values(name, theirs.setdefault(name, tensor), tensor)
    return architecture.constants(config) | theirs


def every_tensor(architecture: Architecture, model: Transformer) -> dict[str, Tensor]:
    """The tensors of a model under all their names there: for files that know no ties and no shared layers.

    Raises:
        BundleError: a tensor of the model has no name there.
    """
    own, names = weights_of(model), _canonical(model)
    theirs: dict[str, Tensor] = {}
    told = set[str]()
    for entry in _counted(architecture, model.config):
        if entry.ours in names:
            told.add(names[entry.ours])
            parts = entry.form.split(own[names[entry.ours]], model.config)
            theirs |= zip(entry.theirs, parts, strict=True)
    if missing := own.keys() - told:
        raise BundleError("a tensor of this model has no name there", found=", ".join(sorted(missing)[:5]))
    return architecture.constants(model.config) | theirs


def read_tensors(architecture: Architecture, config: ModelConfig, found: Tensors, where: Path) -> Transformer:
    """A model with their weights, in eval mode.

    Raises:
        BundleError: a tensor is missing, extra or misshapen, or two that the config ties are different.
    """
    with torch.device("meta"):
        expected = write_tensors(architecture, Transformer(config))
    model = Transformer(config)
    stored = _renamed(architecture, found, expected)
    active, twins = _told(architecture, model)
    _refuse_ties_that_differ(stored, twins, where)
    constants = architecture.constants(config)
    _refuse_other_constants(stored, {name: constants[name] for name in constants.keys() - _names(active)}, where)
    stored = constants | stored
    _refuse_wrong_names(architecture, stored, expected, twins, where)
    _refuse_wrong_shapes(stored, expected, where)
    tensors = {each.ours: each.form.join([stored[name] for name in each.theirs], config) for each in active}
    load_weights(model, tensors, where)
    return model.eval()


def _told(architecture: Architecture, model: Transformer) -> tuple[list[Entry], dict[str, str]]:
    """The entries that say each of our tensors once; then further names of theirs for a tied one -> the name told."""
    names, told, twins = _canonical(model), dict[str, Entry](), dict[str, str]()
    for entry in _counted(architecture, model.config):
        ours = names.get(entry.ours)
        if ours is not None and ours not in told:
            told[ours] = replace(entry, ours=ours)
        elif ours is not None and entry.theirs != told[ours].theirs:
            twins |= zip(entry.theirs, told[ours].theirs, strict=True)
    return list(told.values()), twins


def _names(entries: Collection[Entry]) -> set[str]:
    return {name for entry in entries for name in entry.theirs}


def _canonical(model: Transformer) -> dict[str, str]:
    """Each name of each parameter -> the name that it is stored under."""
    stored = {id(each): name for name, each in model.named_parameters()}
    return {name: stored[id(each)] for name, each in model.named_parameters(remove_duplicate=False)}


def _counted(architecture: Architecture, config: ModelConfig) -> Iterator[Entry]:
    layers = max(config.encoder_layers, config.decoder_layers)
    groups = config.layer_groups or layers
    for entry in architecture.entries(config):
        many = "{layer}" in entry.ours
        yield from (entry.at(layer, layer * groups // layers) for layer in range(layers)) if many else [entry]


def _renamed(architecture: Architecture, found: Tensors, expected: Collection[str]) -> dict[str, Tensor]:
    """What is stored, under today's names: old ends replaced, the prefix of the body put before what lacks it."""
    named: dict[str, Tensor] = {}
    for name, tensor in found.items():
        for old, new in architecture.renamed:
            name = name.removesuffix(old) + new if name.endswith(old) else name
        bare = name not in expected and architecture.prefix + name in expected
        named[architecture.prefix + name if bare else name] = tensor
    return named


def _refuse_two_values(name: str, first: Tensor, second: Tensor) -> None:
    if first is not second and not first.is_meta and not torch.equal(first, second):
        raise BundleError(
            "two tables of this model differ, and theirs is one", found=name, remedy="train with tie: all"
        )


def _refuse_ties_that_differ(stored: Tensors, twins: Mapping[str, str], where: object) -> None:
    for name, first in twins.items():
        if name in stored and first in stored and not torch.equal(stored[name], stored[first]):
            what = f"the tensors {name} and {first} differ, though the config ties them"
            raise BundleError(what, where=where, remedy="set tie_word_embeddings to false in config.json")


def _refuse_other_constants(stored: Tensors, constants: Tensors, where: object) -> None:
    for name in constants.keys() & stored.keys():
        value = constants[name]
        if stored[name].shape != value.shape or not torch.allclose(stored[name].float(), value.float(), atol=1e-5):
            raise BundleError(f"the tensor {name} is not what the config says", where=where)


def _refuse_wrong_names(
    architecture: Architecture, stored: Tensors, expected: Tensors, allowed: Collection[str], where: object
) -> None:
    ignored = re.compile("|".join(architecture.ignored) or r"(?!)")
    extra = {name for name in stored.keys() - expected.keys() if not ignored.search(name)}
    for kind, names in (("missing", expected.keys() - stored.keys()), ("not known", extra - set(allowed))):
        if names:
            shown = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
            problem = f"{len(names)} tensors are {kind}" if len(names) > 1 else f"a tensor is {kind}"
            remedy = "take config.json and weights of the same model"
            raise BundleError(problem, where=where, found=shown, remedy=remedy)


def _refuse_wrong_shapes(stored: Tensors, expected: Tensors, where: object) -> None:
    for name, tensor in expected.items():
        if stored[name].shape != tensor.shape:
            found, needed = tuple(stored[name].shape), tuple(tensor.shape)
            raise BundleError(f"the tensor {name} has another shape", where=where, found=found, expected=needed)
