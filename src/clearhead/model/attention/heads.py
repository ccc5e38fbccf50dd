"""Heads switched off, weighed, or taken out of a model for good.

with masked_heads(model, {"decoder.blocks.0.attention": [1, 4]}):
    ...                                                      # as if these heads were not there
remove_heads(model, {"decoder.blocks.0.attention": [1, 4]})  # the same result, smaller and faster

Gates with a gradient tell how much each head matters (Michel et al., 2019, arXiv:1905.10650).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clearhead.core.errors import ModelError
from clearhead.core.registry import nearest
from clearhead.model.attention.layouts import from_fused, from_heads, to_fused, to_heads
from clearhead.model.attention.multihead import MultiHead, SelfAttention
from clearhead.model.attention.projections import Fused, HeadSizes
from clearhead.model.position.base import LayerPosition, Relation

if TYPE_CHECKING:
    from clearhead.model.config import ModelConfig
    from clearhead.model.transformer import Transformer

Heads = Mapping[str, Iterable[int]]  # path of an attention in the model -> heads, counted from 0


def attentions(model: nn.Module) -> dict[str, MultiHead]:
    """All attentions of a model by path, such as `encoder.blocks.0.attention` or `decoder.blocks.2.cross`."""
    return {path: each for path, each in model.named_modules() if isinstance(each, MultiHead)}


@contextmanager
def gated_heads(model: nn.Module, gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiply what each head mixed by its gate, (heads,), inside the block; the gates may need gradients."""
    hooks = [
        _attention(model, path).kernel.register_forward_hook(
            lambda _, inputs, mixed, gate=gate: mixed * gate.to(mixed)[:, None, None]
        )
        for path, gate in gates.items()
    ]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


@contextmanager
def masked_heads(model: nn.Module, heads: Heads) -> Iterator[None]:
    """Inside the block these heads give nothing."""
    gates = {}
    for path, off in heads.items():
        kept = _kept(path, _attention(model, path), off)
        gates[path] = torch.zeros(_attention(model, path).projections.sizes.heads).index_fill(0, kept, 1.0)
    with gated_heads(model, gates):
        yield


def remove_heads(model: "Transformer", heads: Heads) -> None:
    """Take these heads out of a model in place; it then computes what the model with masked heads did.

    Its config then tells which heads it lacks, so that it can be saved and made again. Key/value heads go with the last
    of their queries, and so only whole groups of grouped heads can be removed.

    Raises:
        ModelError: for unknown paths or heads, all heads, a part of a group, or parts with weights of their own.
    """
    off = {path: tuple(each) for path, each in heads.items()}
    cut_heads(model, off)
    model.config = _told(model.config, off)


def cut_heads(model: nn.Module, heads: Heads) -> None:
    """The same for a model whose config knows already."""
    plans = {path: _kept(path, _attention(model, path), off) for path, off in heads.items()}
    for path, kept in plans.items():
        _require_removable(path, _attention(model, path), kept)
    for path, kept in plans.items():
        _shrink(_attention(model, path), kept)


def _told(config: "ModelConfig", heads: Mapping[str, tuple[int, ...]]) -> "ModelConfig":
    """The config with these heads removed too, all of them counted as in the model that had them."""
    removed = dict(config.removed_heads)
    for path, off in heads.items():
        left = [each for each in range(config.heads) if each not in removed.get(path, ())]
        removed[path] = tuple(sorted({*removed.get(path, ()), *(left[each] for each in off)}))
    return config.model_copy(update={"removed_heads": removed})


@dataclass(frozen=True, eq=False)
class SomeHeads:
    """A position scheme seen from an attention that kept some of its heads."""

    position: LayerPosition
    kept: Tensor

    def turns(self, positions: Tensor, dtype: torch.dtype) -> Any:
        return self.position.turns(positions, dtype)

    def rotate(self, states: Tensor, turns: Any) -> Tensor:
        return self.position.rotate(states, turns)

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        return self._own(self.position.bias(query_positions, key_positions))

    def relate(self, query: Tensor, key: Tensor, query_positions: Tensor, key_positions: Tensor) -> Relation:
        relation = self.position.relate(query, key, query_positions, key_positions)
        return replace(relation, bias=self._own(relation.bias))

    def _own(self, bias: Tensor | None) -> Tensor | None:
        """The heads that were kept of a bias; it may be made from their queries already, or the same for all heads."""
        if bias is None or bias.shape[1] in (1, len(self.kept)):
            return bias
        return bias[:, self.kept.to(bias.device)]


def _attention(model: nn.Module, path: str) -> MultiHead:
    found = attentions(model)
    if path not in found:
        expected = f"one of {', '.join(found)}" if found else "a model with attention"
        raise ModelError(f"no attention {path!r}", expected=expected, remedy=nearest(path, found))
    return found[path]


def _kept(path: str, attention: MultiHead, off: Iterable[int]) -> Tensor:
    """The heads that stay, in order."""
    count, removed = attention.projections.sizes.heads, set(off)
    if not removed <= set(range(count)):
        found = sorted(removed - set(range(count)))
        raise ModelError(f"{path} has no such heads", found=found, expected=f"0 to {count - 1}")
    return torch.tensor([each for each in range(count) if each not in removed], dtype=torch.long, device="cpu")


def _require_removable(path: str, attention: MultiHead, kept: Tensor) -> None:
    sizes = attention.projections.sizes
    if not len(kept):
        raise ModelError(f"{path} would lose all its heads", remedy="keep one, or mask them")
    group = sizes.heads // sizes.kv_heads
    if len(set((kept // group).tolist())) * group != len(kept):
        found = f"{group} query heads to a key/value head"
        raise ModelError(f"{path} would lose a part of a group", found=found, remedy="remove whole groups")
    position = attention.position if isinstance(attention, SelfAttention) else None
    if not isinstance(attention.projections, Fused) or list(attention.kernel.parameters()):
        raise ModelError(f"{path} holds weights of each head elsewhere too", remedy="mask its heads instead")
    if isinstance(position, nn.Module) and list(position.parameters()):
        raise ModelError(f"the position scheme of {path} has weights of its own", remedy="mask its heads instead")


def _shrink(attention: MultiHead, kept: Tensor) -> None:
    """Cut rows out of W_Q, W_K and W_V and columns out of W_O."""
    projections, output = attention.projections, attention.output
    sizes = projections.sizes
    groups = torch.unique(kept // (sizes.heads // sizes.kv_heads))
    smaller = replace(sizes, heads=len(kept), kv_heads=len(groups))
    assert isinstance(projections, Fused)
    projections.weight = _rows(projections.weight, sizes, kept, groups)
    projections.bias = None if projections.bias is None else _rows(projections.bias, sizes, kept, groups)
    projections.sizes = smaller
    columns = output.weight.detach().view(sizes.d_model, sizes.heads, sizes.d_head)[:, kept.to(output.weight.device)]
    output.weight = nn.Parameter(columns.flatten(1))  # (d_model, kept heads * d_head)
    output.in_features = smaller.rows[0]
    if isinstance(attention, SelfAttention):
        attention.position = SomeHeads(attention.position, kept)


def _rows(weight: nn.Parameter, sizes: HeadSizes, kept: Tensor, groups: Tensor) -> nn.Parameter:
    query, key, value = to_heads(from_fused(weight.detach(), sizes), sizes)
    kept, groups = kept.to(weight.device), groups.to(weight.device)
    return nn.Parameter(to_fused(from_heads((query[kept], key[groups], value[groups]))))
