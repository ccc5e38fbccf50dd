"""The model's side of a search: texts of one batch that are written on, one token of every row in a step.

A row is one beam of one text; the rows of a text stand side by side, and every text has as many as the others.

    encoder-decoder: texts are sources, rows begin with the begin of sentence
    decoder-only:    texts are prompts, padded on the left, so that all rows end at the same column
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.generate.caches import DenseCache
from clearhead.model import CAUSAL, OPEN, Memory, Transformer
from clearhead.model.packing.packed import Packed
from clearhead.model.packing.searching import Rules, Written

MOST = 32  # tokens that are written without Python; Ctrl-C is heard in between


class Writer:
    """A model, its texts and its cache.

    Args:
        model: an encoder-decoder or a decoder-only model, in eval mode.
        texts: ids of each source or prompt; none may be empty.
        bos: what an encoder-decoder begins to write with.
        eos: what ends a text.
        forced: what every text of an encoder-decoder has after bos; it counts as written.

    Raises:
        ModelError: the model is in training mode or encoder-only, a text is empty or has an unknown token, or bos is
            missing.
    """

    def __init__(
        self,
        model: Transformer,
        texts: Sequence[Sequence[int]],
        *,
        bos: int | None,
        eos: int,
        forced: Sequence[int] = (),
    ) -> None:
        check_model(model, bos, forced)
        _check_texts(model, texts)
        self.model, self.eos, self.forced = model, eos, list(forced)
        self.cache = DenseCache(model.config.decoder_layers)
        self.memory: Memory | None = None
        self.valid: Tensor | None = None  # (texts, prompt) bool
        reads = bool(model.config.encoder_layers)
        begun = [[bos or 0, *forced]] * len(texts) if reads else texts
        if reads:
            self.memory = model.encode(*_padded(texts, model, left=False))
        self._prompt, self.valid = _padded(begun, model, left=True)
        self._lengths = torch.tensor([len(each) for each in begun], device=self.device)  # tokens of each text
        self._columns = 0  # of the cache, padding included
        self.rows = 1  # of each text
        self._stretch = MOST  # tokens that may be read in one go
        self._forbidden = model.config.pad if reads and model.config.pad != eos else None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.output.device

    @property
    def texts(self) -> int:
        """How many texts are being written."""
        return len(self._lengths)

    def begin(self) -> Tensor:
        """Read the texts: hidden states of what they begin with, (texts, prompt, d_model)."""
        width = self._prompt.shape[1]
        offsets = torch.arange(width, device=self.device) - width
        positions = (self._lengths[:, None] + offsets).clamp(min=0)  # (texts, prompt)
        return self._decode(self._prompt, positions)

    def advance(self, tokens: Tensor) -> Tensor:
        """Write one token in every row, (texts * rows,): their hidden states, (texts * rows, d_model)."""
        positions = self._next()[:, None]
        self._lengths += 1
        return self._decode(tokens[:, None], positions)[:, -1]

    def write_on(self, tokens: Tensor, totals: NDArray[np.float64], most: int) -> Written:
        """Write these tokens, and then the best ones for as long as no text ends; the search of `Beam` and `Greedy`.

        Args:
            tokens: (texts * rows,); the rows of a text are its beams.
            totals: (texts * rows,), log-probability of each row with its token, nats.
            most: tokens of a row in all, of which those after the first are chosen here. How many are chosen is told
                by the result; without a packed model none are.
        """
        found = self._searched(tokens, totals, min(most, self._stretch))
        if found is None:
            logits = self.logits(self.advance(tokens))
            return Written(np.arange(len(tokens)), np.empty((len(tokens), 0), dtype=np.int64), totals, logits)
        read = found.tokens.shape[1] + 1
        self._lengths += read
        self._columns += read
        self._stretch = min(MOST, 2 * read)  # where texts end all the time there is no use in preparing for many
        return found

    def _searched(self, tokens: Tensor, totals: NDArray[np.float64], most: int) -> Written | None:
        if not isinstance(self.model, Packed) or self.model.search is None:
            return None
        positions = self._next()[:, None] + torch.arange(most)
        rules = Rules(self.rows, self.eos, -1 if self._forbidden is None else self._forbidden)
        mask = self.model.rules(OPEN, self._seen(self._columns + most))
        return self.model.search(tokens, positions, mask, self.memory, self.cache, totals, rules)

    def _next(self) -> Tensor:
        """The position of the next token of every row, (texts * rows,); (1,) where all are as long."""
        return self._lengths[:1].clone() if self.valid is None else self._lengths.repeat_interleave(self.rows)

    def logits(self, hidden: Tensor) -> Tensor:
        """Of the next token, (rows, vocab), at least float32. An encoder-decoder never chooses padding."""
        logits = self.model.logits(hidden)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self._forbidden is not None:
            logits.select(1, self._forbidden).fill_(-torch.inf)
        return logits

    def select(self, rows: Tensor) -> None:
        """Row i of each text becomes what its row `rows[text, i]` was; (texts, new number of rows)."""
        first = torch.arange(self.texts, device=rows.device)[:, None] * self.rows
        self._arrange(first + rows)

    def keep(self, texts: Tensor, rows: Tensor) -> None:
        """Go on with these texts only, (kept,) ascending, and of each with its rows `rows[text, i]`, (kept, new)."""
        if len(texts) == self.texts:
            self.select(rows)
            return
        self._arrange(texts[:, None] * self.rows + rows)
        self._lengths = self._lengths[texts]
        if self.valid is not None:
            self.valid = self.valid[texts]
        if self.memory is not None:
            valid = None if self.memory.valid is None else self.memory.valid[texts]
            self.memory = Memory(self.memory.hidden[texts], valid)
            self.cache.select_sources(texts)

    def _arrange(self, picked: Tensor) -> None:
        """The rows of the cache become these of before, (texts, rows); nothing is copied where all stay in place."""
        before = torch.arange(self.texts * self.rows, device=picked.device)
        self.rows = picked.shape[1]
        if not torch.equal(picked.flatten(), before):
            self.cache.select(picked.flatten())

    def _decode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        self._columns += tokens.shape[1]
        mask, valid = OPEN if tokens.shape[1] == 1 else CAUSAL, self._seen(self._columns)
        return self.model.decode(tokens, self.memory, valid=valid, mask=mask, positions=positions, cache=self.cache)

    def _seen(self, columns: int) -> Tensor | None:
        """What belongs to each row, (texts * rows, columns) bool; None = everything."""
        if self.valid is None:
            return None
        written = self.valid.new_ones(self.texts, columns - self.valid.shape[1])
        return torch.cat([self.valid, written], dim=1).repeat_interleave(self.rows, dim=0)


def check_model(model: Transformer, bos: int | None, forced: Sequence[int] = ()) -> None:
    """Refuse a model that cannot write; a ModelError."""
    if model.training:
        raise ModelError("a model in training mode drops features at random", remedy="call model.eval() first")
    if not model.config.decoder_layers:
        raise ModelError("an encoder-only model writes nothing", remedy="use a model with a decoder")
    if model.config.encoder_layers and bos is None:
        raise ModelError("an encoder-decoder begins to write with a token", remedy="pass bos=")
    if forced and not model.config.encoder_layers:
        raise ModelError("a decoder-only model begins with its prompt", remedy="put the forced tokens into the prompt")
    unknown = [each for each in forced if not 0 <= each < len(model.output)]
    if unknown:
        raise ModelError("a forced token is unknown", found=unknown[0], expected=f"0 to {len(model.output) - 1}")


def _check_texts(model: Transformer, texts: Sequence[Sequence[int]]) -> None:
    vocab = (model.encoder if model.config.encoder_layers else model.decoder).embedding.vocab
    for index, each in enumerate(texts):
        if not len(each):
            raise ModelError("a source has no tokens", found=f"source {index}", expected="at least an end of sentence")
        if not 0 <= min(each) <= max(each) < vocab:
            found, expected = f"{min(each)} to {max(each)} in source {index}", f"0 to {vocab - 1}"
            raise ModelError("a source has an unknown token", found=found, expected=expected)


def _padded(rows: Sequence[Sequence[int]], model: Transformer, *, left: bool) -> tuple[Tensor, Tensor | None]:
    """Ids (rows, longest) and which are no padding; None = all."""
    lengths = torch.tensor([len(each) for each in rows])
    slots = torch.arange(int(lengths.max()))
    valid = slots >= (lengths.max() - lengths)[:, None] if left else slots < lengths[:, None]
    ids = torch.full(valid.shape, model.config.pad)
    ids[valid] = torch.tensor([token for each in rows for token in each])
    device = model.output.device
    return ids.to(device), None if bool(valid.all()) else valid.to(device)
