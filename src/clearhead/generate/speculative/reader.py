"""A model that reads one text and goes back when part of it is withdrawn."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.generate.caches import DenseCache
from clearhead.model import CAUSAL, OPEN, Memory, Transformer
from clearhead.model.stack import STACKS
from clearhead.model.stack.base import Blocks


class Reader:
    """What a model says after each token of a text; what it has read once it does not read again.

    Args:
        model: a decoder-only model or an encoder-decoder, in eval mode.
        source: what an encoder-decoder reads.
        eos: the token that ends a text; None = there is none.

    Raises:
        ModelError: the model is in training mode, or keeps something else than one state for each token.
    """

    def __init__(self, model: Transformer, source: Sequence[int] | None, eos: int | None) -> None:
        if model.training:
            raise ModelError("a model in training mode drops features at random", remedy="call model.eval() first")
        if not issubclass(cast(type, STACKS.get(model.config.stack.kind)), Blocks):
            raise ModelError("this model cannot go back in a text", found=f"stack {model.config.stack.kind}")
        self.model, self._read = model, list[int]()
        self._cache = DenseCache(model.config.decoder_layers)
        self._memory = self._encoded(source)
        self._forbidden = model.config.pad if model.config.encoder_layers and model.config.pad != eos else None

    @torch.inference_mode()
    def read(self, tokens: Sequence[int], last: int) -> Tensor:
        """Logits after each of the last tokens of a text, (last, vocab), at least float32, on the CPU.

        What the text begins with in common with the one read before is kept, the rest of that one is withdrawn.
        """
        known = min(_common(self._read, tokens), len(tokens) - last)
        self._cache.truncate(known)
        new = torch.tensor([tokens[known:]], device=self.model.output.device)  # (1, new)
        self._read = list(tokens)
        positions = torch.arange(known, len(tokens), device=new.device)[None]
        mask = OPEN if new.shape[1] == 1 else CAUSAL
        hidden = self.model.decode(new, self._memory, positions=positions, mask=mask, cache=self._cache)
        logits = self.model.logits(hidden[0, -last:])
        logits = logits.to("cpu", torch.promote_types(logits.dtype, torch.float32))  # where choosers have their numbers
        if self._forbidden is not None:
            logits[:, self._forbidden] = -torch.inf
        return logits

    @torch.inference_mode()
    def _encoded(self, source: Sequence[int] | None) -> Memory | None:
        if not self.model.config.encoder_layers:
            return None
        if not source:
            raise ModelError("an encoder-decoder reads a source", remedy="pass source=")
        return self.model.encode(torch.tensor([list(source)], device=self.model.output.device))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts begin with in common."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
