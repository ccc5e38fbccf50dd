"""Our model as functions of plain tensors, which become the graphs of ONNX files.

encoder.onnx    source, source_valid[, segments] ─▶ logits, hidden; with a decoder: cross_key_0, cross_value_0, ...
decoder.onnx    target, valid[, source_valid, cross_*], past_* ─▶ logits, present_*

`past` holds the keys and values of earlier tokens, none of them at first; `valid` covers past and target, so that
padding may stand on either side. The keys and values of a source are computed once, by the encoder.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from clearhead.bundle.weights import load_weights, weights_of
from clearhead.core.registry import Choice
from clearhead.model import ModelConfig, Transformer
from clearhead.model.attention.multihead import CrossAttention, Memory
from clearhead.model.block import Block
from clearhead.model.cache import KeyValue
from clearhead.model.embedding.patches import Patches
from clearhead.model.position.base import Position
from clearhead.model.position.learned import Learned
from clearhead.model.position.sinusoidal import Sinusoidal
from clearhead.model.stack import Stack
from clearhead.model.stack.base import Blocks

PARTS = ("key", "value")


class Graph(nn.Module):
    """One file: what it reads and gives, by name, and which of its axes may have any length."""

    name: str
    inputs: list[str]
    outputs: list[str]

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def example(self) -> tuple[Tensor, ...]:
        """Something to read."""
        raise NotImplementedError

    def axes(self) -> list[dict[int, str]]:
        """For each input: axis -> its name."""
        raise NotImplementedError


class Encoder(Graph):
    """The source to scores and hidden states, or to what a decoder reads of it."""

    name = "encoder"

    def __init__(self, model: Transformer) -> None:
        super().__init__(model)
        self.inputs = ["source"] if self._pictures else ["source", "source_valid"]
        self.inputs += ["segments"] if model.config.segments else []
        self.outputs = crossing(model.config) or ["logits", "hidden"]

    def forward(self, source: Tensor, valid: Tensor | None = None, segments: Tensor | None = None) -> list[Tensor]:
        memory = self.model.encode(source, valid, segments=segments)
        if not self.model.config.decoder_layers:
            return [self.model.logits(memory.hidden, valid), memory.hidden]
        blocks = cast(Blocks, self.model.decoder).blocks
        crossed = [_crossing(each).projections.keys_values(memory.hidden) for each in blocks]
        return [each for both in crossed for each in both]

    def example(self) -> tuple[Tensor, ...]:
        if self._pictures:
            shape = cast(Patches, self.model.encoder.embedding).shape
            return (torch.randn(3, *shape, dtype=self.model.output.dtype),)
        source = torch.zeros(3, min(7, self.model.config.length), dtype=torch.long)
        given = [source, torch.ones_like(source, dtype=torch.bool)]
        return (*given, torch.zeros_like(source)) if self.model.config.segments else tuple(given)

    def axes(self) -> list[dict[int, str]]:
        words = {} if self._pictures else {1: "source"}
        return [{0: "batch", **words} for _ in self.inputs]

    @property
    def _pictures(self) -> bool:
        return self.model.encoder.embedding.reads == "pictures"


class Decoder(Graph):
    """New tokens and what is kept of earlier ones to scores of the next token and what to keep."""

    name = "decoder"

    def __init__(self, model: Transformer) -> None:
        super().__init__(model)
        kept = layered("past", model.config)
        source = ["source_valid", *crossing(model.config)] if model.config.encoder_layers else []
        self.inputs = ["target", "valid", *source, *kept]
        self.outputs = ["logits", *layered("present", model.config)]

    def forward(self, target: Tensor, valid: Tensor, *states: Tensor) -> list[Tensor]:
        config = self.model.config
        source, count = None, len(crossing(config))
        if config.encoder_layers:
            source, states = states[0], states[1:]
        crossed, past = states[:count], states[count:]
        cache = Given(_pairs(past), _pairs(crossed), (valid.long().cumsum(dim=1) - 1).clamp(min=0))
        memory = None if source is None else Memory(crossed[0].new_zeros(target.shape[0], 0, config.d_model), source)
        positions = cache.positions[:, past[0].shape[2] :]  # (batch, target)
        hidden = self.model.decode(target, memory, valid=valid, positions=positions, cache=cache)
        return [self.model.logits(hidden), *(each for layer in cache.layers for each in layer.present)]

    def example(self) -> tuple[Tensor, ...]:
        config = self.model.config
        sizes, past, length = config.sizes, 2, 3
        target = torch.zeros(3, length, dtype=torch.long)

        def states(tokens: int) -> Tensor:
            return torch.zeros(3, sizes.kv_heads, tokens, sizes.d_head, dtype=self.model.output.dtype)

        source = [torch.ones(3, 5, dtype=torch.bool), *(states(5) for _ in crossing(config))]
        valid = torch.ones(3, past + length, dtype=torch.bool)
        kept = [states(past) for _ in layered("past", config)]
        return (target, valid, *(source if config.encoder_layers else []), *kept)

    def axes(self) -> list[dict[int, str]]:
        special = {"target": {1: "target"}, "valid": {1: "keys"}, "source_valid": {1: "source"}}
        return [{0: "batch", **special.get(each, {2: each.split("_")[0]})} for each in self.inputs]


@dataclass
class GivenLayer:
    """What one block of a decoder is given of earlier tokens and of the source, and what it is to keep."""

    past: KeyValue
    source: KeyValue | None
    positions: Tensor  # (batch, keys)
    present: tuple[Tensor, ...] = ()

    def extend(self, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Past and new keys and values, and the positions of both."""
        both = torch.cat([self.past[0], key], dim=2), torch.cat([self.past[1], value], dim=2)
        self.present = both
        return *both, self.positions

    def memory(self, compute: Callable[[], KeyValue]) -> KeyValue:
        """What the encoder computed."""
        return compute() if self.source is None else self.source


class Given:
    """The cache of a graph: all that it keeps comes in and goes out."""

    def __init__(self, past: list[KeyValue], source: list[KeyValue], positions: Tensor) -> None:
        self.positions = positions
        known: Sequence[KeyValue | None] = source or [None] * len(past)
        self.layers = [GivenLayer(own, cross, positions) for own, cross in zip(past, known, strict=True)]

    def layer(self, index: int) -> GivenLayer:
        """The cache of block `index`."""
        return self.layers[index]


class Rows(Position):
    """A scheme that adds row t + offset of a table to token t, without a look at the numbers."""

    table: Tensor  # (rows, width)

    def __init__(self, table: Tensor, offset: int) -> None:
        nn.Module.__init__(self)
        self.offset = offset
        self.register_buffer("table", table)

    def add(self, embedded: Tensor, positions: Tensor) -> Tensor:
        return embedded + self.table[positions + self.offset].to(embedded.dtype)


def graphs(model: Transformer, dtype: torch.dtype) -> Iterator[Graph]:
    """The files of a model, in a precision."""
    traced = Transformer(untiled(model.config)).eval().to(dtype)
    load_weights(traced, weights_of(model), Path())
    for side in _stacks(traced):
        scheme = side.embedding_sum.position
        if isinstance(scheme, Sinusoidal | Learned):
            offset = scheme.offset if isinstance(scheme, Learned) else 0
            side.embedding_sum.position = Rows(scheme.table.detach(), offset)
    if model.config.encoder_layers:
        yield Encoder(traced)
    if model.config.decoder_layers:
        yield Decoder(traced)


def untiled(config: ModelConfig) -> ModelConfig:
    """The same model without tiles, which compute the same in loops that no graph can say."""

    def plain(kernel: Choice | None) -> Choice | None:
        if kernel is None or kernel.kind != "tiled":
            return kernel
        return Choice(kind="dot", options={key: each for key, each in kernel.options.items() if key != "block"})

    kernels = {"attention": plain(config.attention), "cross_attention": plain(config.cross_attention)}
    return config.model_copy(update=kernels)


def crossing(config: ModelConfig) -> list[str]:
    """Names of the keys and values of the source; none unless a decoder reads an encoder."""
    return layered("cross", config) if config.encoder_layers and config.decoder_layers else []


def layered(name: str, config: ModelConfig) -> list[str]:
    """Names of keys and values of each block of the decoder."""
    return [f"{name}_{part}_{layer}" for layer in range(config.decoder_layers) for part in PARTS]


def _stacks(model: Transformer) -> list[Stack]:
    encoders = [model.encoder] if model.config.encoder_layers else []
    return [*encoders, *([model.decoder] if model.config.decoder_layers else [])]


def _crossing(block: nn.Module) -> CrossAttention:
    return cast(CrossAttention, cast(Block, block).cross)


def _pairs(states: tuple[Tensor, ...]) -> list[KeyValue]:
    return list(zip(states[0::2], states[1::2], strict=True))
