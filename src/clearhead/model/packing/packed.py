"""A model -> one that only reads, with every product by a matrix packed."""

from collections.abc import Callable
from copy import deepcopy
from itertools import chain
from typing import cast

from torch import Tensor, nn

from clearhead.core.errors import ModelError
from clearhead.core.registry import Choice
from clearhead.model.attention.projections import Fused
from clearhead.model.head import Head
from clearhead.model.head.lm import LanguageModel
from clearhead.model.packing.base import PRODUCTS, Product
from clearhead.model.packing.library import library
from clearhead.model.packing.searching import Searching
from clearhead.model.packing.stepping import Stepping, hooks_of, knows
from clearhead.model.stack.base import Blocks
from clearhead.model.transformer import Transformer

DEFAULT = Choice(kind="float32")


def packed(model: Transformer, product: Choice = DEFAULT) -> "Packed":
    """A model for reading only: it computes as this one does, and shares what is not packed with it.

    Args:
        model: in eval mode; it stays as it is.
        product: how matrices are kept.

    Raises:
        ModelError: the model is in training mode.
        ConfigError: there is no such product.
    """
    if model.training:
        raise ModelError("a model in training mode changes its weights", remedy="call model.eval() first")
    PRODUCTS.check(product)
    shared = {id(each): each for each in chain(model.parameters(), model.buffers())}
    reader = deepcopy(model, shared)
    steps = model.config.decoder_layers > 0 and knows(reader.decoder)
    for parent in list(reader.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in PACKED:
                setattr(parent, name, PACKED[type(child)](child, product))
    if reader.head.linear:
        reader.head = PackedHead(reader.head, product)
    compiled = library()
    if steps and compiled is not None and _are_compiled(reader.decoder):
        reader.decoder = Stepping(cast(Blocks, reader.decoder), compiled)
    return Packed(reader)


class Packed(Transformer):
    """A packed model: what a Transformer is, and a search that writes on by itself. Wiring: a model with packed parts.

    Its parts stay what they are: the compiled step has taken their addresses.

    Attributes:
        search: greedy and beam search of the compiled step; None where this model's parts are unknown to it.
    """

    def __init__(self, reader: Transformer) -> None:
        nn.Module.__init__(self)
        self.config, self.output, self.training = reader.config, reader.output, reader.training
        for name, child in reader.named_children():
            setattr(self, name, child)
        self.search = self._search()

    def _search(self) -> Searching | None:
        head, decoder = self.head, getattr(self, "decoder", None)  # an encoder-only model has none
        if not isinstance(head, PackedHead) or type(head.head) is not LanguageModel:
            return None
        if not isinstance(head.head.narrow, nn.Identity) or not isinstance(decoder, Stepping):
            return None
        compiled = head.last.compiled
        if compiled is None or not compiled.ready:
            return None
        return Searching(decoder, compiled.struct, head.head.scale, hooks_of(self, *head.modules()))


def _linear(linear: nn.Linear, product: Choice) -> Product:
    return PRODUCTS.build(product, linear.weight, linear.bias)


def _are_compiled(part: nn.Module) -> bool:
    """Whether the compiled step has all matrices of a part."""
    products = [each.compiled for each in part.modules() if isinstance(each, Product)]
    return all(each is not None and each.ready for each in products)


class PackedFused(Fused):
    """Fused projections that pack those rows together that are asked for together."""

    def __init__(self, fused: Fused, choice: Choice) -> None:
        nn.Module.__init__(self)
        self.sizes, self.weight, self.bias, self.choice = fused.sizes, fused.weight, fused.bias, choice
        self.packed = nn.ModuleDict()

    def part(self, start: int, stop: int) -> Product:
        """The product by these rows of the matrix."""
        name = f"{start}-{stop}"
        if name not in self.packed:
            bias = None if self.bias is None else self.bias[start:stop]
            self.packed[name] = PRODUCTS.build(self.choice, self.weight[start:stop], bias)
        return cast(Product, self.packed[name])

    def product(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        multiplied: Tensor = self.part(start, stop)(hidden)
        return multiplied


class PackedHead(Head):
    """A head whose last map is packed."""

    def __init__(self, head: Head, choice: Choice) -> None:
        nn.Module.__init__(self)
        self.head, self.matrix, self.bias = head, head.matrix, head.bias
        self.last = PRODUCTS.build(choice, head.matrix, head.bias)

    def transform(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        return self.head.transform(hidden, valid)

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        scores: Tensor = self.last(self.transform(hidden, valid))
        return scores


PACKED: dict[type[nn.Module], Callable[..., nn.Module]] = {nn.Linear: _linear, Fused: PackedFused}
