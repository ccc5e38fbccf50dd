"""Recurrent networks: the models that the Transformer replaced.

Encoders read in both directions (Schuster and Paliwal, 1997), decoders from left to right. A decoder starts from the
mean of the encoder's states and reads all of them through attention after its last layer (Luong et al., 2015,
arXiv:1508.04025); with `model.attention: additive` and one head it scores them as Bahdanau et al., 2015.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from clearhead.core.errors import ConfigError
from clearhead.model.attention.multihead import CrossAttention, Memory
from clearhead.model.block import newest
from clearhead.model.cache import Cache, LayerCache
from clearhead.model.dropout import Dropout
from clearhead.model.mask import AttentionMask
from clearhead.model.stack.base import STACKS, Parts, Side, Stack, require_plain


class Layer(nn.Module):
    """One recurrent layer; its state is a vector (batch, states * d_model)."""

    def __init__(self, cell: nn.RNNBase, states: int, dropout: float) -> None:
        super().__init__()
        self.cell, self.states = cell, states
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, valid: Tensor | None, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Hidden (batch, length, d_model), the state before -> the same shape, and the state after the last token."""
        parts = None if state is None else [each.contiguous() for each in state[None].chunk(self.states, dim=-1)]
        before = parts if parts is None or self.states > 1 else parts[0]
        output, after = self.cell(hidden, before) if valid is None else self._packed(hidden, valid, before)
        states = after if self.states > 1 else (after,)
        return self.dropout(output), torch.cat([each[-1] for each in states], dim=-1)

    def _packed(self, hidden: Tensor, valid: Tensor, before: Any) -> tuple[Tensor, Any]:
        """Read the valid tokens of each row, wherever they stand."""
        order = valid.long().argsort(dim=1, descending=True, stable=True)[..., None]  # (batch, length, 1)
        front = hidden.gather(1, order.expand_as(hidden))  # valid tokens first
        lengths = valid.sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(front, lengths, batch_first=True, enforce_sorted=False)
        output, after = self.cell(packed, before)
        padded, _ = pad_packed_sequence(output, batch_first=True, total_length=hidden.shape[1])
        return padded.gather(1, order.argsort(dim=1).expand_as(padded)), after


class Reading(nn.Module):
    """tanh(W [state; what attention finds in the memory])."""

    def __init__(self, cross: CrossAttention, d_model: int) -> None:
        super().__init__()
        self.cross = cross
        self.join = nn.Linear(2 * d_model, d_model)

    def forward(self, hidden: Tensor, memory: Memory | None, cache: LayerCache) -> Tensor:
        found = self.cross(hidden, memory, cache)
        joined: Tensor = torch.tanh(self.join(torch.cat([hidden, found], dim=-1)))
        return joined


class NoReading(nn.Module):
    """A decoder that knows the source only from the state it starts in, or has no source."""

    def forward(self, hidden: Tensor, memory: Memory | None, cache: LayerCache) -> Tensor:
        return hidden


class Recurrent(Stack):
    """Recurrent layers one after another.

    A cache keeps the state after each call as if it were a key, so searches need not know what a model is made of.

    Args:
        reads: `attention`, or `start`: only through the first state (Sutskever et al., 2014, arXiv:1409.3215).
    """

    cell: Callable[..., nn.RNNBase]
    states = 1  # vectors that a cell hands on

    def __init__(self, parts: Parts, *, reads: Literal["attention", "start"] = "attention") -> None:
        super().__init__(parts)
        side = parts.side
        self.causal, self.width = side.causal, self.states * side.d_model
        self.layers = nn.ModuleList(self._layer(side) for _ in range(side.layers))
        starts = side.layers if side.crosses else 0
        self.starts = nn.ModuleList(nn.Linear(side.d_model, self.width) for _ in range(starts))
        attends = side.crosses and reads == "attention"
        self.reading: nn.Module = Reading(parts.cross_attention(), side.d_model) if attends else NoReading()

    def _layer(self, side: Side) -> Layer:
        directions = 1 if side.causal else 2
        if side.d_model % directions:
            raise ConfigError("two directions share d_model", found=side.d_model, expected="an even number")
        options = {"batch_first": True, "bidirectional": directions == 2}
        return Layer(self.cell(side.d_model, side.d_model // directions, **options), self.states, side.dropout)

    def body(
        self, hidden: Tensor, positions: Tensor, mask: AttentionMask, memory: Memory | None, cache: Cache
    ) -> Tensor:
        require_plain(mask)
        valid = newest(mask.valid, hidden)
        for index, layer in enumerate(self.layers):
            before = self._before(index, hidden, memory, cache.layer(index))
            hidden, after = layer(hidden, valid, before)
            self._keep(after, positions, cache.layer(index))
        read: Tensor = self.reading(hidden, memory, cache.layer(len(self.layers) - 1))
        return read

    def _before(self, index: int, hidden: Tensor, memory: Memory | None, cache: LayerCache) -> Tensor | None:
        """The state that a layer goes on from, (batch, states * d_model); None = zeros."""
        if not self.causal:
            return None
        empty = hidden.new_empty(len(hidden), 1, 0, self.width)
        stored, _, _ = cache.extend(empty, empty[..., :0], hidden.new_empty(1, 0, dtype=torch.int64))
        if stored.shape[2]:
            return stored[:, 0, -1]
        if memory is None:
            return None
        first: Tensor = torch.tanh(self.starts[index](_mean(memory)))
        return first.repeat_interleave(len(hidden) // len(first), dim=0)

    def _keep(self, after: Tensor, positions: Tensor, cache: LayerCache) -> None:
        if self.causal:
            key = after[:, None, None]  # (batch, 1, 1, states * d_model)
            cache.extend(key, key[..., :0], positions[:, -1:])


def _mean(memory: Memory) -> Tensor:
    """The mean of the source's states, (batch, d_model)."""
    if memory.valid is None:
        return memory.hidden.mean(dim=1)
    kept = memory.hidden * memory.valid[..., None]
    return kept.sum(dim=1) / memory.valid.sum(dim=1, keepdim=True).clamp(min=1).to(kept.dtype)


@STACKS.register("rnn")
class Rnn(Recurrent):
    """The simple recurrence tanh(W x + U h + b) (Elman, 1990)."""

    cell = nn.RNN


@STACKS.register("gru")
class Gru(Recurrent):
    """Gated recurrent units (Cho et al., 2014, arXiv:1406.1078)."""

    cell = nn.GRU


@STACKS.register("lstm")
class Lstm(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), with forget gates (Gers et al., 2000)."""

    cell = nn.LSTM
    states = 2
