"""Linear attention as a recurrent network (Katharopoulos et al., 2020, arXiv:2006.16236, section 3.4).

with recurrent(model) as cache:
    model.decode(prompt, positions=places, cache=cache)  # any number of tokens at a time
    model.decode(token, positions=place, cache=cache)

Each block keeps the sums over all keys so far in place of the keys: a longer text costs no more memory, nor more time a
step.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor, nn

from clearhead.core.errors import ModelError
from clearhead.model.attention.base import Kernel
from clearhead.model.attention.linear import Linear
from clearhead.model.attention.multihead import SelfAttention
from clearhead.model.cache import KeyValue
from clearhead.model.mask import AttentionMask
from clearhead.model.position.base import Relation

if TYPE_CHECKING:
    from clearhead.model.transformer import Transformer


class SumsLayer:
    """What one block keeps."""

    def __init__(self) -> None:
        self.sums: Tensor | None = None  # (rows, heads, features, d_head + 1)
        self.source: KeyValue | None = None

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The new tokens alone; what was before them is in the sums."""
        return key, value, positions

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        """The encoder's keys and values, computed at the first call."""
        if self.source is None:
            self.source = compute()
        return self.source


class SumsCache:
    """The sums of all blocks; for use without gradients."""

    def __init__(self, layers: int) -> None:
        self._layers = [SumsLayer() for _ in range(layers)]

    def layer(self, index: int) -> SumsLayer:
        """The sums of block `index`."""
        return self._layers[index]

    def select(self, rows: Tensor) -> None:
        """Rearrange the sequences: row i becomes what row `rows[i]` was."""
        for each in self._layers:
            each.sums = None if each.sums is None else each.sums[rows]

    @property
    def bytes(self) -> int:
        """Bytes of the sums; those of the encoder's keys and values are not counted."""
        return sum(each.sums.numel() * each.sums.element_size() for each in self._layers if each.sums is not None)


class Recurrent(Kernel):
    """Stands in for a linear kernel: its keys are the new ones, and all of them come after what the sums know."""

    def __init__(self, kernel: Linear, layer: SumsLayer) -> None:
        nn.Module.__init__(self)
        self.kernel, self.layer = kernel, layer

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask, relation: Relation) -> Tensor:
        _require_summable(mask)
        mixed, self.layer.sums = self.kernel.continued(query, key, value, mask, self.layer.sums)
        return mixed


@contextmanager
def recurrent(model: "Transformer") -> Iterator[SumsCache]:
    """The cache to decode with inside the block.

    Raises:
        ModelError: the model has no decoder, sees a window only, or has a self-attention that cannot be summed up.
    """
    attentions = _attentions(model)
    cache, kernels = SumsCache(len(attentions)), [each.kernel for each in attentions]
    stand_ins = [Recurrent(_summable(kernel), cache.layer(index)) for index, kernel in enumerate(kernels)]
    for each, stand_in in zip(attentions, stand_ins, strict=True):
        each.kernel = stand_in
    hook = model.decoder.register_forward_pre_hook(_check_rules)
    try:
        yield cache
    finally:
        hook.remove()
        for each, kernel in zip(attentions, kernels, strict=True):
            each.kernel = kernel


def _attentions(model: "Transformer") -> list[SelfAttention]:
    """The self-attentions of the decoder, one for each layer."""
    layers, window = model.config.decoder_layers, model.config.window
    found = [each for each in model.decoder.modules() if isinstance(each, SelfAttention)] if layers else []
    if not found or len(found) != layers:
        what, shown = "not a decoder with a self-attention for each layer", f"{len(found)} for {layers} layers"
        raise ModelError(what, found=shown, remedy="decode with another cache")
    if window is not None:
        raise ModelError("sums over all keys cannot forget some", found=f"window {window}", remedy="leave window out")
    return found


def _check_rules(decoder: nn.Module, given: tuple[object, ...]) -> None:
    """Refuse rules before the blocks do without a window that holds all keys of a pass, here only the new ones."""
    for each in given:
        if isinstance(each, AttentionMask):
            _require_summable(each)


def _require_summable(mask: AttentionMask) -> None:
    if not mask.only_padding_and_causal:
        remedy = "decode with another cache"
        raise ModelError("sums over all keys can hide nothing but padding and the future", remedy=remedy)


def _summable(kernel: nn.Module) -> Linear:
    if not isinstance(kernel, Linear) or not kernel.alone:
        found, remedy = type(kernel).__name__, "decode with another cache"
        raise ModelError("only linear attention can be summed up", found=found, remedy=remedy)
    return kernel
