"""The logit lens: which word would come if the model ended after this layer (nostalgebraist, 2020).

The stream after each block goes through the last norm and the head, as the stream after the last one does.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clearhead.apply.shown import Token, shown
from clearhead.core.errors import ModelError
from clearhead.model import Transformer
from clearhead.model.block import Block
from clearhead.model.embedding import EmbeddingSum
from clearhead.model.head.classify import Labelling
from clearhead.model.recorder import Record, Tap
from clearhead.model.stack import Stack
from clearhead.model.stack.base import Blocks
from clearhead.text import Tokenizer

TOP = 5  # words of a place


def _output(module: object, inputs: tuple[object, ...], output: Tensor) -> Tensor:
    return output


LENS_TAPS = tuple(Tap(at=each, name=lambda path: path, take=_output) for each in (EmbeddingSum, Block, Stack))


@dataclass(frozen=True)
class Lens:
    """The most probable words at each place, layer by layer; the last layer is the model itself."""

    layers: list[int]  # 0 = before the first block
    ids: npt.NDArray[np.int64]  # (layers, places, words), the most probable first
    probabilities: npt.NDArray[np.float32]  # the same shape
    final: npt.NDArray[np.float32]  # (layers, places), probability of the word that the last layer ranks first
    words: dict[int, Token]  # every id above


def lens(model: Transformer, record: Record, tokenizer: Tokenizer) -> Lens | None:
    """What each layer of the last stack would say; None for a model whose head judges and names no words.

    Args:
        model: that was recorded through LENS_TAPS while it read one text.
        tokenizer: of its words.

    Raises:
        ModelError: the model computes numbers that are none.
    """
    if isinstance(model.head, Labelling):
        return None
    side = "decoder" if model.config.decoder_layers else "encoder"
    found = dict(_streams(model, record, side))  # layer -> (1, places, d_model)
    last = _shares(model, found[max(found)], tokenizer).argmax(dim=-1, keepdim=True)  # (places, 1)
    count = min(TOP, tokenizer.vocab_size)
    ids, probabilities, final = [], [], []
    for stream in found.values():
        shares = _shares(model, stream, tokenizer)  # (places, vocab)
        best, which = shares.topk(count, dim=-1)
        ids.append(which.cpu().numpy())
        probabilities.append(best.cpu().numpy())
        final.append(shares.gather(1, last)[:, 0].cpu().numpy())
    every = sorted({int(each) for layer in ids for each in layer.flat})
    words = dict(zip(every, shown(tokenizer, every), strict=True))
    return Lens(list(found), np.stack(ids), np.stack(probabilities).round(5), np.stack(final).round(5), words)


def _streams(model: Transformer, record: Record, side: str) -> Iterator[tuple[int, Tensor]]:
    """Layer number and what the head would read after it."""
    stack: Stack = getattr(model, side)
    layers = model.config.decoder_layers or model.config.encoder_layers
    if not isinstance(stack, Blocks):
        yield layers, record[side]
        return
    if stack.embedding.width == model.config.d_model:
        yield 0, stack.last(record[f"{side}.embedding_sum"], None)
    blocks = [each for name, calls in record.calls.items() if _is_block(name, side) for each in calls]
    for number, stream in enumerate(blocks, start=1):
        yield number, stack.last(stream, None)


def _is_block(name: str, side: str) -> bool:
    return name.startswith(f"{side}.blocks.") and name.count(".") == 2


def _shares(model: Transformer, stream: Tensor, tokenizer: Tokenizer) -> Tensor:
    """The probabilities of the words that the tokenizer has, (places, vocab)."""
    shares = model.logits(stream)[0].float().softmax(dim=-1)[:, : tokenizer.vocab_size]
    if not bool(torch.isfinite(shares).all()):
        raise ModelError("this model computes numbers that are none", remedy="train it anew, or take another one")
    return shares
