"""Looking inside a model while it runs, without a line in the model: forward hooks that come and go.

with recording(model) as record:
    model.decode(target, model.encode(source))
record["decoder.blocks.2.cross"]  # (batch, heads, target, source)

`recording(model, EVERYTHING)` sees embeddings, queries, keys, values, scores, the stream and the norms as well.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from clearhead.core.errors import ModelError
from clearhead.core.registry import nearest
from clearhead.model.attention.base import Kernel, Scored, grouped, pair_bias
from clearhead.model.block import Block
from clearhead.model.embedding import EmbeddingSum
from clearhead.model.norm import Norm
from clearhead.model.residual import Residual


@dataclass(frozen=True)
class Record:
    """What was seen, by name and in the order of the calls.

    Attention weights have the name of their module, `encoder.blocks.0.attention` or `decoder.blocks.2.cross`, and
    the shape (batch, heads, queries, keys). They are those before dropout. In a search the beams of one source
    stand side by side among the queries of cross-attention, as the model computes them.

    With EVERYTHING there are besides:

        encoder.embedding                        (batch, length, width), positions added
        encoder.blocks.0.attention.queries       (batch, heads, queries, d_head), positions applied
        encoder.blocks.0.attention.keys          (batch, kv_heads, keys, d_head), and .values
        encoder.blocks.0.attention.scores        (batch, heads, queries, keys) before mask and softmax, if there are any
        encoder.blocks.0.attention.mixed         (batch, heads, queries, d_head), before the heads are joined
        encoder.blocks.0.attention_residual      (batch, length, d_model), the stream after the sub-layer
        encoder.blocks.0.attention_residual.norm (batch, length, d_model)
        encoder.blocks.0                         (batch, length, d_model), the stream after the block
        encoder.last                             (batch, length, d_model), what the stack returns
    """

    calls: dict[str, list[Tensor]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        """What the only call under this name left; a ModelError where there was none, or more than one."""
        found = self.calls.get(name, [])
        if not found:
            seen = ", ".join(self.calls) or "nothing"
            raise ModelError(
                f"nothing was recorded as {name!r}", found=seen, remedy=nearest(name, self.calls) or "run the model"
            )
        if len(found) > 1:
            remedy = f"choose one of record.calls[{name!r}]"
            raise ModelError(f"{name} ran more than once", found=f"{len(found)} calls", remedy=remedy)
        return found[0]

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of their first calls."""
        return iter(self.calls)


@dataclass(frozen=True)
class Tap:
    """One place to look at: at which modules, under what name, what to take from their inputs and output."""

    at: type[nn.Module]
    name: Callable[[str], str]  # path of the module in the model -> name in the record
    take: Callable[[Any, tuple[Any, ...], Any], Tensor]  # module, inputs, output -> tensor


def _weights(kernel: Kernel, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    query, key, _, mask, relation = inputs
    return kernel.weights(query, key, mask, relation)


def _scores(kernel: Scored, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    query, key, _, mask, relation = inputs
    scores, bias = kernel.scores(query, grouped(key, query.shape[1])), pair_bias(mask, relation)
    return scores if bias is None else scores + bias


def _output(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output


def _input(index: int) -> Callable[[Any, tuple[Any, ...], Any], Tensor]:
    return lambda module, inputs, output: inputs[index]


def _in_attention(name: str) -> Callable[[str], str]:
    return lambda path: f"{path.removesuffix('kernel')}{name}"


ATTENTION_WEIGHTS = Tap(at=Kernel, name=lambda path: path.removesuffix(".kernel"), take=_weights)
TAPS = (ATTENTION_WEIGHTS,)
EVERYTHING = (  # what more is worth recording is one more tap
    ATTENTION_WEIGHTS,
    Tap(at=Scored, name=_in_attention("scores"), take=_scores),
    Tap(at=Kernel, name=_in_attention("queries"), take=_input(0)),
    Tap(at=Kernel, name=_in_attention("keys"), take=_input(1)),
    Tap(at=Kernel, name=_in_attention("values"), take=_input(2)),
    Tap(at=Kernel, name=_in_attention("mixed"), take=_output),
    Tap(at=EmbeddingSum, name=lambda path: path.replace("embedding_sum", "embedding"), take=_output),
    Tap(at=Residual, name=lambda path: path, take=_output),
    Tap(at=Block, name=lambda path: path, take=_output),
    Tap(at=Norm, name=lambda path: path, take=_output),
)


@contextmanager
def recording(model: nn.Module, taps: tuple[Tap, ...] = TAPS) -> Iterator[Record]:
    """Record what passes the taps inside the block; the model computes the same as ever, bit for bit.

    Each attention is computed once more for its weights, so a recording costs time and memory; outside the block
    it costs nothing. A recording inside a recording is allowed: each fills its own record.
    """
    record = Record()
    hooks = [
        module.register_forward_hook(_hook(tap, tap.name(path), record))
        for path, module in model.named_modules()
        for tap in taps
        if isinstance(module, tap.at)
    ]
    try:
        yield record
    finally:
        for each in hooks:
            each.remove()


def _hook(tap: Tap, name: str, record: Record) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        with torch.no_grad():
            record.calls.setdefault(name, []).append(tap.take(module, inputs, output).detach())

    return look
