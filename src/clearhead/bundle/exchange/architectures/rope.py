"""Rotary positions in their config: base, scaling, and the order of features in a head."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from clearhead.bundle.exchange.flat import Flat
from clearhead.bundle.exchange.rules import Custom, Theirs
from clearhead.bundle.exchange.tensors import Heads
from clearhead.core.errors import BundleError
from clearhead.core.registry import Choice
from clearhead.model import ModelConfig
from clearhead.model.position.scaling import SCALINGS

OPTIONS = {  # of each scaling: theirs -> ours
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low_freq_factor": "low",
        "high_freq_factor": "high",
        "original_max_position_embeddings": "original",
    },
    "yarn": {
        "factor": "factor",
        "original_max_position_embeddings": "original",
        "beta_fast": "fast",
        "beta_slow": "slow",
    },
}
SAME_AS_OURS = ("attention_factor", "mscale", "mscale_all_dim")  # null there = what ours does


def _read(theirs: Theirs) -> Flat:
    """`rope_parameters`, or `rope_theta` and `rope_scaling` in files of old versions."""
    rope = {**(theirs.get("rope_scaling") or {}), **(theirs.get("rope_parameters") or {})}
    base = rope.get("rope_theta", theirs.get("rope_theta", 10_000.0))
    kind = rope.get("rope_type", rope.get("type", "default"))
    return {"position.base": base, "position.scaling": _scaling(kind, rope, theirs)}


def _scaling(kind: str, rope: Mapping[str, Any], theirs: Theirs) -> Choice:
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise BundleError("partial_rotary_factor is not known here", found=rope["partial_rotary_factor"])
    if kind == "default":
        return Choice(kind="none")
    if kind not in OPTIONS:
        expected = f"one of default, {', '.join(OPTIONS)}"
        raise BundleError("this scaling of rotary positions is not known", found=kind, expected=expected)
    for key in SAME_AS_OURS:
        if rope.get(key) is not None:
            raise BundleError(f"{key} of rotary positions has no counterpart", found=rope[key])
    if kind == "yarn" and rope.get("truncate", True) is not True:
        raise BundleError("truncate of rotary positions has no counterpart", found=rope["truncate"])
    given = {"original_max_position_embeddings": theirs.get("max_position_embeddings"), **rope}
    return Choice(kind=kind, options={ours: given[key] for key, ours in OPTIONS[kind].items() if key in given})


def _write(ours: Mapping[str, Any]) -> dict[str, Any]:
    scaling: Choice = ours["position.scaling"]
    if scaling.kind == "none":
        return {"rope_parameters": {"rope_type": "default", "rope_theta": ours["position.base"]}}
    if scaling.kind not in OPTIONS:
        expected = f"one of none, {', '.join(OPTIONS)}"
        raise BundleError("position.scaling has no word there", found=scaling.kind, expected=expected)
    defaults = {name: each.default for name, each in SCALINGS.options(scaling.kind).items()}
    values = {**defaults, **scaling.options}
    told = {key: values[name] for key, name in OPTIONS[scaling.kind].items()}
    return {"rope_parameters": {"rope_type": scaling.kind, "rope_theta": ours["position.base"], **told}}


class RotaryHeads(Heads):
    """W_Q, W_K and W_V where the features of a head are rotated in pairs; `layout` is their order of the features.

    Scores are sums over pairs, so a common order of the features of queries and keys changes nothing but the layout.
    """

    def __init__(self, layout: str) -> None:
        self.layout = layout

    def join(self, parts: Sequence[Tensor], config: ModelConfig) -> Tensor:
        query, key, value = parts
        order = torch.argsort(self._order(config))
        return torch.cat([_reordered(query, order), _reordered(key, order), value])

    def split(self, tensor: Tensor, config: ModelConfig) -> list[Tensor]:
        query, key, value = super().split(tensor, config)
        order = self._order(config)
        return [_reordered(query, order), _reordered(key, order), value]

    def _order(self, config: ModelConfig) -> Tensor:
        """Which of our features of a head stands at each of their places, (d_head,)."""
        places = torch.arange(config.sizes.d_head, device="cpu")
        ours = config.position.options.get("layout", "halves")
        if ours == self.layout:
            return places
        return places.view(-1, 2).T.flatten() if ours == "pairs" else places.view(2, -1).T.flatten()


def _reordered(rows: Tensor, order: Tensor) -> Tensor:
    """(heads * d_head, ...) with the features of each head in another order."""
    return rows.reshape(-1, len(order), *rows.shape[1:])[:, order.to(rows.device)].flatten(0, 1)


ROPE = Custom(("position.base", "position.scaling", "position.layout"), _read, _write)
ROTARY_HALVES, ROTARY_PAIRS = RotaryHeads("halves"), RotaryHeads("pairs")
