"""A decoder that writes one token of every row in one call of step.c; everything else it does as it always did.

A step of a small model is hundreds of short operators, and more time goes into calling them than into arithmetic.
The parts that step.c knows are listed here; a decoder with others is left as it is, and a call that asks for more (a
recording, a mask of its own, gradients, several tokens, a cache that does not keep keys side by side) goes the usual
way too.
"""

import threading
from collections.abc import Mapping
from ctypes import CDLL, byref
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from clearhead.model.attention.dot import Dot
from clearhead.model.attention.heads import SomeHeads
from clearhead.model.attention.multihead import CrossAttention, Memory, SelfAttention
from clearhead.model.attention.projections import Fused, HeadSizes
from clearhead.model.block import Block, NoCross
from clearhead.model.cache import NO_CACHE, Cache, InPlace, Place
from clearhead.model.embedding.sum import Added, NoSegments
from clearhead.model.embedding.table import Table
from clearhead.model.feedforward import gated, plain
from clearhead.model.mask import AttentionMask
from clearhead.model.norm import NoNorm, Norm
from clearhead.model.norm.layernorm import LayerNorm
from clearhead.model.norm.rmsnorm import RMSNorm
from clearhead.model.once import Once
from clearhead.model.packing import structs
from clearhead.model.packing.compiled import threads_for
from clearhead.model.packing.structs import Held, Stores
from clearhead.model.position.base import InLayer, Lent, Position
from clearhead.model.position.learned import Learned
from clearhead.model.position.rotary import Rotary
from clearhead.model.position.sinusoidal import Sinusoidal
from clearhead.model.residual import DeepNorm, NoResidual, PostNorm, PreNorm, Residual
from clearhead.model.stack.base import Blocks
from clearhead.model.stack.transformer import TransformerStack

NORMS = {NoNorm: 0, LayerNorm: 1, RMSNorm: 2}
PLACES = {PostNorm: 0, DeepNorm: 0, PreNorm: 1, NoResidual: 2}
PLAIN = {plain.Linear: 0, plain.Relu: 1, plain.Gelu: 2, plain.GeluTanh: 3, plain.Silu: 4}
TABLES = (Sinusoidal, Learned)  # position schemes that add a row of a table
PLAIN_IDS = 2  # axes of tokens: (rows, 1)
GATED = {gated.Geglu: 2, gated.GegluTanh: 3, gated.Swiglu: 4}


class Stepping(Blocks):
    """The same parts and the same numbers, but for the order in which sums are rounded.

    Args:
        stack: a decoder of which `knows` was true before its matrices were packed; its parts become parts of this one.
        library: the compiled step.
    """

    def __init__(self, stack: Blocks, library: CDLL) -> None:
        nn.Module.__init__(self)
        self.embedding, self.embedding_sum = stack.embedding, stack.embedding_sum
        self.blocks, self.last = stack.blocks, stack.last
        self.layers: list[Any] = list(self.blocks)  # a list, as it is walked through in every step
        self.library, self.held = library, Held()
        layers = [_block(self.held, each) for each in self.layers]
        blocks = structs.array(structs.Block, layers)
        d_model = self.layers[0].attention.projections.sizes.d_model
        self.struct = structs.Model(blocks, _norm(self.held, self.last), len(layers), d_model)
        self.hooks = hooks_of(*self.modules())
        self.work = sum(map(_products, layers))  # for each row
        self.position = self.layers[0].attention.position  # what it says of positions alone serves all blocks
        self.biases = type(_scheme(self.position)).bias is not InLayer.bias
        self.begins = Beginning(self.embedding, self.embedding_sum) if _knows_beginning(stack) else None
        self.local = Local(len(layers))

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: AttentionMask,
        memory: Memory | None = None,
        cache: Cache = NO_CACHE,
        segments: Tensor | None = None,
    ) -> Tensor:
        if tokens.dim() == PLAIN_IDS and tokens.shape[1] == 1 and segments is None and self.takes(mask, cache):
            hidden = self._embedded(tokens, positions)
            if hidden is not None:
                return self._stepped(hidden, positions, mask, memory, cache)
        return super().forward(tokens, positions, mask, memory, cache, segments)

    def body(
        self, hidden: Tensor, positions: Tensor, mask: AttentionMask, memory: Memory | None, cache: Cache
    ) -> Tensor:
        if hidden.shape[1] == 1 and self.takes(mask, cache):
            return self._stepped(hidden.contiguous(), positions, mask, memory, cache)
        return super().body(hidden, positions, mask, memory, cache)

    def takes(self, mask: AttentionMask, cache: Cache) -> bool:
        """Whether step.c can do a step with this mask and this cache."""
        if torch.is_grad_enabled() or any(self.hooks) or not _plain(mask):
            return False
        first = cache.layer(0)
        return isinstance(first, InPlace) and first.places

    def _embedded(self, tokens: Tensor, positions: Tensor) -> Tensor | None:
        """What the first block reads, (rows, 1, d_model); None where PyTorch must look it up."""
        if self.begins is None:
            return None
        table, hidden = self.begins.table(), torch.empty(tokens.shape[0], 1, self.struct.d_model, dtype=torch.float32)
        call = self.local.call
        call.hidden, call.rows = hidden.data_ptr(), tokens.shape[0]
        tell_tokens(call, tokens, positions)
        found = self.library.clearhead_embed(byref(table), byref(call), self.struct.d_model)
        return hidden if found else None

    def _stepped(
        self, hidden: Tensor, positions: Tensor, mask: AttentionMask, memory: Memory | None, cache: Cache
    ) -> Tensor:
        """The last hidden states, in the place of the first ones, (rows, 1, d_model)."""
        told = self.told(hidden, positions, mask, memory, cache)
        told.call.threads, model, call = threads_for(len(hidden) * self.work), byref(self.struct), byref(told.call)
        told.call.work = self.local.room(self.library.clearhead_work(model, call, None))
        self.library.clearhead_step(model, call)
        return hidden

    def told(
        self, hidden: Tensor, positions: Tensor, mask: AttentionMask, memory: Memory | None, cache: Cache
    ) -> "Told":
        """A call with everything but tokens, threads and scratch memory.

        Args:
            hidden: (rows, 1, d_model), where hidden states are or will be.
            positions: (rows or 1, new) int64; more than one where a search writes on by itself.
        """
        local, rows = self.local, hidden.shape[0]
        call = local.call
        call.hidden, call.rows = hidden.data_ptr(), rows
        call.self, call.cross = local.own.array, local.crossed.array
        turns = self._turn(call, positions)
        place, keys = self._keys(local.own, rows, positions, mask, cache)
        sources = None if memory is None else self._sources(local.crossed, rows, memory, cache)
        return Told(call, place, (hidden, turns, keys, sources))

    def _turn(self, call: structs.Call, positions: Tensor) -> Any:
        """Tell by which angles this step turns queries and keys."""
        call.own = None
        turns = self.position.turns(positions, torch.float32)
        if turns is None:
            return None
        own, partner = (each.contiguous() for each in turns)  # (rows or 1, 1, new, turned)
        call.own, call.partner = own.data_ptr(), partner.data_ptr()
        call.turn_row, call.turned = (own.stride(0) if own.shape[0] > 1 else 0), own.shape[-1]
        call.pairs = int(_scheme(self.position).layout == "pairs")
        return own, partner

    def _keys(
        self, stores: Stores, rows: int, positions: Tensor, mask: AttentionMask, cache: Cache
    ) -> tuple[Place, Any]:
        """Make room for the new tokens in every block, and tell where their keys and values are."""
        once, biases, like, new = (
            Once(),
            list[Any](),
            torch.empty(rows, 0, 1, 0, dtype=torch.float32),
            positions.shape[1],
        )
        valid = None if mask.valid is None else mask.valid.contiguous()  # (rows, columns)
        for index, block in enumerate(self.layers):
            sizes = block.attention.projections.sizes
            if like.shape[1] != sizes.kv_heads:  # the first block, or one that has lost heads, or the one after it
                like = torch.empty(rows, sizes.kv_heads, new, sizes.d_head, dtype=torch.float32)
            place = cast(InPlace, cache.layer(index)).place(positions, like)
            keys = stores.at(index, place.key, place.value)
            keys.first, keys.columns, keys.readers = place.first, place.columns, 1
            keys.window = place.columns if mask.window is None else mask.window
            _see(keys, valid)
            keys.origins = None
            if place.origins is not None:
                keys.origins, keys.origins_row = place.origins.data_ptr(), place.origins.stride(0)
            if self.biases:
                biases.append(_lean(keys, once(block.attention.position.bias, positions, place.positions)))
        return place, (valid, biases)

    def _sources(self, stores: Stores, rows: int, memory: Memory, cache: Cache) -> Any:
        """Tell where keys and values of the sources are."""
        valid, found = None if memory.valid is None else memory.valid.contiguous(), []
        for index, block in enumerate(self.layers):
            key, value = cache.layer(index).memory(partial(block.cross.projections.keys_values, memory.hidden))
            keys = stores.at(index, key, value)
            keys.columns = keys.window = key.shape[2]
            keys.readers = rows // key.shape[0]
            _see(keys, valid)
            found += [key, value]
        return valid, found


class Told(NamedTuple):
    """A call of step.c, where the newest tokens of a block are, and what must be kept until the call is over."""

    call: structs.Call
    place: Place
    held: Any


def tell_tokens(call: structs.Call, tokens: Tensor, positions: Tensor) -> None:
    """Tell what is read first: tokens (rows, ...) and positions (rows or 1, ...), of each row the first."""
    call.tokens, call.tokens_row = tokens.data_ptr(), tokens.stride(0)
    call.positions, call.positions_row = positions.data_ptr(), 0
    if positions.shape[0] > 1:
        call.positions_row = positions.stride(0)


class Beginning:
    """What a token is before the first block: a row of a table, and one of a table of positions."""

    def __init__(self, embedding: Any, joined: Any) -> None:
        self.position = joined.position if type(joined.position) in TABLES else None
        self.tokens, self.scale = embedding.table, joined.scale
        self.known: tuple[Tensor | None, structs.Embedding] = (None, self._struct(None))

    def table(self) -> structs.Embedding:
        """What step.c looks into. A table of positions may have been drawn anew, for longer texts, by any thread."""
        positions = None if self.position is None else self.position.table
        if positions is not self.known[0]:
            self.known = (positions, self._struct(positions))
        return self.known[1]

    def _struct(self, positions: Tensor | None) -> structs.Embedding:
        found = structs.Embedding(self.tokens.data_ptr(), None, len(self.tokens), 0, self.scale)
        if positions is not None:
            rows = positions[getattr(self.position, "offset", 0) :]  # those before it no token uses
            found.positions, found.length = rows.data_ptr(), len(rows)
            found.held = rows  # lives as long as somebody looks into it
        return found


class Local(threading.local):
    """What a thread tells step.c with, kept from one step to the next."""

    def __init__(self, layers: int) -> None:
        self.call = structs.Call()
        self.own, self.crossed = Stores(layers), Stores(layers)
        self._work = torch.empty(0, dtype=torch.float32)

    def room(self, floats: int) -> int:
        """The address of scratch memory."""
        if self._work.shape[0] < floats:
            self._work = torch.empty(2 * floats, dtype=torch.float32)
        return self._work.data_ptr()


def hooks_of(*modules: nn.Module) -> list[Mapping[int, Any]]:
    """Where these modules keep their hooks; the same dictionaries for as long as the modules live."""
    return [hooks for each in modules for hooks in (each._forward_hooks, each._forward_pre_hooks)]


def knows(stack: nn.Module) -> bool:
    """Whether step.c can do all that the blocks of this stack do."""
    if type(stack) is not TransformerStack:
        return False
    parameters = list(stack.parameters())
    same = all(each.dtype == torch.float32 and each.device.type == "cpu" for each in parameters)
    return same and type(stack.last) in NORMS and all(_knows_block(each) for each in stack.blocks)


def _knows_beginning(stack: Any) -> bool:
    """Whether step.c can look up what its blocks read first."""
    joined = stack.embedding_sum
    usual = type(stack.embedding) is Table and type(joined) is Added and type(joined.segments) is NoSegments
    known = type(joined.position) in TABLES or type(joined.position).add is Position.add
    return usual and type(joined.norm) is NoNorm and known


def _knows_block(block: Any) -> bool:
    if type(block) is not Block or type(block.attention) is not SelfAttention:
        return False
    attentions: list[Any] = [block.attention]
    residuals: list[Any] = [block.attention_residual, block.feedforward_residual]
    if not isinstance(block.cross, NoCross):
        attentions, residuals = [*attentions, block.cross], [*residuals, block.cross_residual]
    return (
        all(type(each.kernel) is Dot and type(each.projections) is Fused for each in attentions)
        and all(type(each) in PLACES and type(each.norm) in NORMS for each in residuals)
        and (type(block.feedforward) in PLAIN or type(block.feedforward) in GATED)
        and _knows_position(block.attention.position)
    )


def _knows_position(position: Any) -> bool:
    """Whether a scheme says nothing about pairs in view of their queries and keys."""
    scheme = _scheme(position)
    if not isinstance(scheme, InLayer):
        return False
    turns = type(scheme).rotate is InLayer.rotate or isinstance(scheme, Rotary)
    return turns and type(scheme).relate is InLayer.relate


def _scheme(position: Any) -> Any:
    """What is behind a block's view of a position scheme."""
    while isinstance(position, SomeHeads | Lent):
        position = position.position
    return position


def _plain(mask: AttentionMask) -> bool:
    """Whether nothing but padding and a window hides from a newest token what its cache holds."""
    rules = (mask.prefix, mask.segments, mask.allowed, mask.added)
    return mask.own and all(each is None for each in rules)


def _see(keys: structs.Keys, valid: Tensor | None) -> None:
    """Tell what is padding, (rows, columns) bool."""
    keys.valid = None
    if valid is not None:
        keys.valid, keys.valid_row = valid.data_ptr(), valid.stride(0)


def _lean(keys: structs.Keys, bias: Tensor | None) -> Tensor | None:
    """Tell what is added to scores, (rows or 1, heads or 1, 1, columns)."""
    keys.bias = None
    if bias is not None:
        bias = bias.float().expand(-1, -1, 1, keys.columns)
        row, head, _, column = (each if size > 1 else 0 for each, size in zip(bias.stride(), bias.shape, strict=True))
        keys.bias, keys.bias_row, keys.bias_head, keys.bias_column = bias.data_ptr(), row, head, column
    return bias


# --- parts ---


def _block(held: Held, block: Any) -> structs.Block:
    found = structs.Block(
        self=_attention(held, block.attention, block.attention_residual, queries=False),
        residual=_residual(held, block.feedforward_residual),
        outer=_matrix(block.feedforward.outer),
        inner=_matrix(block.feedforward.inner),
        activation=(PLAIN | GATED)[type(block.feedforward)],
    )
    if isinstance(block.feedforward, gated.Gated):
        found.gate = _matrix(block.feedforward.gate)
    if isinstance(block.cross, CrossAttention):
        found.cross = _attention(held, block.cross, block.cross_residual, queries=True)
    return found


def _matrix(product: Any) -> structs.Matrix:
    """A packed matrix, which its product keeps alive."""
    found: structs.Matrix = product.compiled.struct
    return found


def _attention(held: Held, attention: Any, residual: Residual, *, queries: bool) -> structs.Attention:
    sizes: HeadSizes = attention.projections.sizes
    stop = sizes.rows[0] if queries else sum(sizes.rows)
    return structs.Attention(
        inputs=_matrix(attention.projections.part(0, stop)),
        output=_matrix(attention.output),
        residual=_residual(held, residual),
        scale=cast(Dot, attention.kernel).scale,
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        d_head=sizes.d_head,
    )


def _residual(held: Held, residual: Residual) -> structs.Residual:
    alpha = residual.alpha if isinstance(residual, DeepNorm) else 1.0
    return structs.Residual(_norm(held, residual.norm), alpha, PLACES[type(residual)])


def _norm(held: Held, norm: Norm) -> structs.Norm:
    if isinstance(norm, NoNorm):
        return structs.Norm()
    bias = held.address(norm.bias) if isinstance(norm, LayerNorm) else None
    return structs.Norm(held.address(cast(Tensor, norm.weight)), bias, cast(float, norm.epsilon), NORMS[type(norm)])


def _products(block: structs.Block) -> int:
    """Products of two numbers that a row costs in a block."""
    attentions = [each for one in (block.self, block.cross) for each in (one.inputs, one.output)]
    return sum(each.outputs * each.inputs for each in (*attentions, block.gate, block.inner, block.outer))
