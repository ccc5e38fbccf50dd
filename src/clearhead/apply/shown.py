"""What a look shows beside attention: tokens, what positions look like, what the cache costs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clearhead.model import Transformer
from clearhead.model.accounting import cache_elements
from clearhead.model.attention.multihead import SelfAttention
from clearhead.model.stack import Stack
from clearhead.model.stack.base import Blocks
from clearhead.text import Tokenizer
from clearhead.text.readable import readable

PLACES = 64  # positions of a picture
FEATURES = 256  # columns of a picture


@dataclass(frozen=True)
class Token:
    """One token."""

    id: int
    text: str  # as a reader should see it
    kind: str  # text, bytes or special


def shown(tokenizer: Tokenizer, ids: Sequence[int]) -> list[Token]:
    """Ids as tokens that can be read."""
    return [Token(index, piece.text, piece.kind) for index, piece in zip(ids, readable(tokenizer, ids), strict=True)]


@dataclass(frozen=True)
class Picture:
    """What a position scheme does.

    added      (1, places, features), what is added to the embedding of each place
    rotated    (1, places, features), queries or keys of nothing but ones after their rotation
    likeness   (1, places, places), cosine of the rows of one of the two above
    bias       (heads, places, places), what is added to the scores of queries and keys
    """

    kind: str
    side: str  # encoder or decoder
    values: npt.NDArray[np.float32]


def pictures(model: Transformer) -> list[Picture]:
    """The pictures of a model's positions; one that both sides have in common is shown once."""
    found: list[Picture] = []
    for side in ("encoder", "decoder"):
        if getattr(model.config, f"{side}_layers"):
            for kind, values in _values(getattr(model, side)):
                drawn = values.float().cpu().numpy()
                if not any(each.kind == kind and np.array_equal(each.values, drawn) for each in found):
                    found.append(Picture(kind, side, drawn))
    return found


def _values(stack: Stack) -> Iterator[tuple[str, Tensor]]:
    """Kind and values of each picture, by the doorways of the family: whatever the scheme is."""
    scheme, weight = stack.embedding_sum.position, next(stack.parameters())
    size = min(PLACES, scheme.limit or PLACES)
    places = torch.arange(size, device=weight.device)[None]  # (1, places)
    nothing = weight.new_zeros(1, size, stack.embedding.width)
    added = scheme.add(nothing, places)  # (1, places, width)
    if bool(added.any()):
        yield from _with_likeness("added", added)
    attention = stack.blocks[0].attention if isinstance(stack, Blocks) else None
    if not isinstance(attention, SelfAttention):
        return
    layer, sizes = attention.position, attention.projections.sizes
    if scheme.rotates:
        ones = weight.new_ones(1, 1, size, sizes.d_head)
        yield from _with_likeness("rotated", layer.rotate(ones, layer.turns(places, weight.dtype))[0])
    bias = layer.bias(places, places)
    if bias is not None:
        yield "bias", bias[0]  # (heads, places, places)


def _with_likeness(kind: str, values: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield kind, values[..., :FEATURES]
    unit = torch.nn.functional.normalize(values.float(), dim=-1)
    yield "likeness", unit @ unit.mT


@dataclass(frozen=True)
class Keeping:
    """What generation keeps of the tokens, in bytes, with the number format of the weights."""

    per_token: int  # of each token that is written
    source: int  # of this source, once
    parameters: int  # of the whole model, to compare with
    window: int | None  # tokens that attention looks back at; older ones need not be kept


def keeping(model: Transformer, source: int) -> Keeping | None:
    """What the cache of a model costs after a source of so many tokens; None for a model that writes nothing."""
    if not model.config.decoder_layers:
        return None
    size = next(model.parameters()).element_size()
    elements = cache_elements(model, source, 1)
    weights = sum(each.numel() * each.element_size() for each in model.parameters())
    return Keeping(size * elements.get("attention", 0), size * elements.get("cross", 0), weights, model.config.window)
