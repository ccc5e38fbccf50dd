"""What a model does inside while it reads a text, as plain values: attention, heads in numbers, layer by layer.

look = Inside(model).look("the cat sat")
look.attention[0].weights[1]  # the second head of the first layer, (queries, keys)
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clearhead.apply.framing import Framing
from clearhead.apply.heads import Head, summaries
from clearhead.apply.lens import LENS_TAPS, Lens, lens
from clearhead.apply.model import Model
from clearhead.apply.shown import Keeping, Picture, Token, keeping, pictures, shown
from clearhead.apply.twin import stacks, twin
from clearhead.core.errors import DataError, ModelError
from clearhead.model.recorder import TAPS, Record, recording

Matrix = npt.NDArray[np.float32]
LONGEST = 256  # tokens of a side
CELLS = 4_000_000  # attention weights of all heads together, about what a page can still draw


@dataclass(frozen=True)
class Attention:
    """The attention of one layer."""

    site: str  # encoder, decoder or cross
    layer: int  # counted from 1
    weights: Matrix  # (heads, queries, keys)
    heads: list[Head]


@dataclass(frozen=True)
class Look:
    """What was seen of one text. A model has an encoder, a decoder, or both."""

    encoder: list[Token]
    decoder: list[Token]
    attention: list[Attention]
    lens: Lens | None  # None: this model does not say which word comes
    pictures: list[Picture]  # of its positions
    keeping: Keeping | None  # what its cache costs; None: it has none


@dataclass(frozen=True)
class Alignment:
    """Where each token of a translation looked while it was chosen; the mean over the heads of a layer."""

    source: list[Token]
    output: list[Token]
    layers: list[Matrix]  # each (output, source)
    best: int  # the layer that comes closest to an alignment, counted from 0


class Inside:
    """Looks inside a model that others may be using at the same time, from any number of threads.

    Args:
        model: with a tokenizer.

    Raises:
        TokenizerError: the model came without a tokenizer.
        ModelError: it reads something else than tokens.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.bundle = model, model.bundle
        self.framing = Framing(model.bundle)
        self._twin = twin(model.bundle.model)
        self._alone = threading.Lock()  # a recording sees all that its modules compute, so one text at a time

    @property
    def limit(self) -> int:
        """The most tokens of a side."""
        config, reach = self.bundle.model.config, self._reach()
        maps = (config.encoder_layers + config.decoder_layers * (2 if config.encoder_layers else 1)) * config.heads
        return max(1, min(LONGEST, reach, int((CELLS / max(1, maps)) ** 0.5)))

    def look(self, text: str, target: str | None = None) -> Look:
        """Read a text and tell what happened.

        Args:
            text: what the model reads; of an encoder-decoder the source.
            target: what the decoder of an encoder-decoder reads; None = the model's own translation.

        Raises:
            DataError: there is no token, or there are more than `limit`.
        """
        encoder, decoder = self._ids(text, target)
        config = self._twin.config
        tokenizer = self.bundle.target
        with self._alone, torch.inference_mode():
            with recording(self._twin, (*TAPS, *LENS_TAPS)) as record:
                self._run(encoder, decoder)
            found = lens(self._twin, record, tokenizer)
            positions = pictures(self._twin)
        return Look(
            encoder=shown(self.bundle.source, encoder),
            decoder=shown(tokenizer, decoder),
            attention=list(_attention(record, causal=bool(config.decoder_layers))),
            lens=found,
            pictures=positions,
            keeping=keeping(self._twin, len(encoder)),
        )

    def alignment(self, source: str, output: str) -> Alignment:
        """Where each token of an output looked in the source, by the cross-attention of each layer.

        Raises:
            ModelError: this model has no cross-attention.
            DataError: there is no token on a side, or there are more than `limit`.
        """
        kind = self._twin.config.kind
        if kind != "encoder-decoder":
            raise ModelError(f"this model is {kind}: it does not look from one text at another")
        encoder, decoder = self._ids(source, output)
        if len(decoder) < 2:
            raise DataError("there is no token in the output", remedy="give a translation")
        with self._alone, torch.inference_mode(), recording(self._twin) as record:
            self._run(encoder, decoder[:-1])
        layers = [each.weights.mean(axis=0) for each in _attention(record, causal=True) if each.site == "cross"]
        if not layers:
            raise ModelError("this model has no cross-attention")
        best = max(0, len(layers) - 2)  # the last but one (Garg et al., 2019, arXiv:1909.02074)
        return Alignment(shown(self.bundle.source, encoder), shown(self.bundle.target, decoder[1:]), layers, best)

    def _ids(self, text: str, target: str | None) -> tuple[list[int], list[int]]:
        """What encoder and decoder read."""
        config = self._twin.config
        if config.kind == "encoder-only":
            return self._checked("the text", self.framing.whole(text)), []
        if config.kind == "decoder-only":
            return [], self._checked("the text", self.framing.start(text))
        source = self._checked("the source", self.framing.source(text))
        if target is None:
            target = self.model.translate([text])[0]
        return source, self._checked("the target", self.framing.target(target))

    def _checked(self, what: str, ids: Sequence[int]) -> list[int]:
        if not ids:
            raise DataError(f"{what} has no token", remedy="write something")
        if len(ids) > self.limit:
            found, expected = f"{len(ids):,} tokens", f"at most {self.limit:,}, begin and end included"
            raise DataError(f"{what} is too long to look inside", found=found, expected=expected, remedy="shorten it")
        return list(ids)

    def _reach(self) -> int:
        """The most tokens that the positions of the model reach."""
        limits = [each.embedding_sum.position.limit for each in stacks(self._twin)]
        return min((each for each in limits if each is not None), default=LONGEST)

    def _run(self, encoder: list[int], decoder: list[int]) -> None:
        model, device = self._twin, self.model.device
        memory = model.encode(torch.tensor([encoder], device=device)) if encoder else None
        if decoder:
            model.decode(torch.tensor([decoder], device=device), memory)


def _attention(record: Record, *, causal: bool) -> Iterator[Attention]:
    """Every attention that ran, in order; a shared layer once for each time."""
    count: dict[str, int] = {}
    for name, calls in record.calls.items():
        if name.endswith((".attention", ".cross")):
            site = "cross" if name.endswith(".cross") else name.partition(".")[0]
            for weights in calls:
                count[site] = count.get(site, 0) + 1
                yield _layer(site, count[site], weights, causal=causal and site == "decoder")


def _layer(site: str, number: int, weights: Tensor, *, causal: bool) -> Attention:
    """(1, heads, queries, keys) -> one layer, rounded to what anyone can see."""
    found = weights[0].double().cpu().numpy()
    heads = summaries(found, causal=causal, crosses=site == "cross")
    return Attention(site, number, found.round(4).astype(np.float32), heads)
