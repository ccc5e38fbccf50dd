"""Putting the weights of a transformers model into ours: a table of names, every one of them used."""

import torch
from torch import Tensor, nn

from clearhead.model import Transformer


def shaken(theirs: nn.Module) -> nn.Module:
    """In double precision and eval mode, with no parameter at its initial 0 or 1."""
    theirs = theirs.double().eval()
    with torch.no_grad():
        for each in theirs.parameters():
            each.add_(0.1 * torch.randn_like(each))
    return theirs


def fill(ours: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give every parameter its value; fails if a name is missing or left over."""
    own = dict(ours.named_parameters())
    assert own.keys() == weights.keys(), own.keys() ^ weights.keys()
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value.reshape(own[name].shape))


def joined(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    """Weight and bias of several linear maps as one."""
    return {kind: torch.cat([state[f"{name}.{kind}"] for name in names]) for kind in ("weight", "bias")}


def block(state: dict[str, Tensor], ours: str, parts: dict[str, str | tuple[str, ...]]) -> dict[str, Tensor]:
    """Our names below `ours` with the values of theirs; several of theirs stand for one that joins them."""
    found = {}
    for own, their in parts.items():
        values = joined(state, *((their,) if isinstance(their, str) else their))
        found |= {f"{ours}.{own}.{kind}": value for kind, value in values.items()}
    return found


def double(model: Transformer) -> Transformer:
    return model.double().eval()
