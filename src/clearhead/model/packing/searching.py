"""Greedy and beam search that write many tokens in one call of step.c, until something happens.

What happens is that a text ends or that a number is no number: then whoever asked gets the logits of that step and
goes on in Python. In between there is no Python for a token, and for one text that was half of the time.
"""

from collections.abc import Mapping, Sequence
from ctypes import byref, pointer
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clearhead.model.attention.multihead import Memory
from clearhead.model.cache import Ahead, Place
from clearhead.model.mask import AttentionMask
from clearhead.model.packing import structs
from clearhead.model.packing.compiled import threads_for
from clearhead.model.packing.stepping import Stepping, tell_tokens


class Written(NamedTuple):
    """What rows have written since they were asked.

    Args:
        rows: (rows,) int64, the row that each one was when they were asked.
        tokens: (rows, steps) int64, what it has written since.
        totals: (rows,) float64, log-probability of each row, nats.
        logits: (rows, vocab) of the next token, of which something may end.
    """

    rows: NDArray[np.int64]
    tokens: NDArray[np.int64]
    totals: NDArray[np.float64]
    logits: Tensor


class Rules(NamedTuple):
    """How a search goes on: so many beams for each text, the token that ends it, one that is never chosen (or -1)."""

    beams: int
    eos: int
    forbidden: int


class Searching:
    """A decoder and the head that reads it.

    Args:
        head: a matrix (vocab, d_model) that lives as long as this.
        scale: factor of what it reads.
        hooks: of the parts that are passed by here; where one is set nothing is passed by.
    """

    def __init__(
        self, decoder: Stepping, head: structs.Matrix, scale: float, hooks: Sequence[Mapping[int, Any]]
    ) -> None:
        self.decoder, self.head, self.scale, self.hooks = decoder, head, scale, hooks
        self.work = decoder.work + head.outputs * head.inputs

    def __call__(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: AttentionMask,
        memory: Memory | None,
        cache: Ahead,
        totals: NDArray[np.float64],
        rules: Rules,
    ) -> Written | None:
        """Write these tokens and then the best ones; None, and nothing done, where step.c cannot.

        Args:
            tokens: (rows,) int64.
            positions: (rows or 1, steps) int64, of the tokens and of those that may follow.
            mask: a mask of padding, if there is one, reaches as far as the last of them.
            memory, cache: as in `Transformer.decode`.
            totals: (rows,), log-probability of each row with its token, nats.
        """
        decoder, begins = self.decoder, self.decoder.begins
        if begins is None or decoder.biases or any(self.hooks) or not decoder.takes(mask, cache):
            return None
        table = begins.table()
        if table.positions and int(positions[:, -1].max()) >= table.length:
            return None
        told = decoder.told(
            torch.empty(len(tokens), 1, self.head.inputs, dtype=torch.float32), positions, mask, memory, cache
        )
        call, length = told.call, told.place.columns - positions.shape[1]  # tokens before these
        run = Run(tokens, totals, positions.shape[1], rules.beams, self.head.outputs)
        search = run.struct(rules, self.head, self.scale)
        search.embedding = pointer(table)
        if rules.beams > 1:
            run.trace(search, told.place, length)
        tell_tokens(call, run.newest, positions)
        call.threads = threads_for(len(tokens) * self.work)
        library, model = decoder.library, byref(decoder.struct)
        call.work = decoder.local.room(library.clearhead_work(model, byref(call), byref(search.head)))
        found = library.clearhead_search(model, byref(call), byref(search))
        assert found, "a token that the model does not know"
        cache.rearrange(None if run.origins is None else run.origins[search.table], length + search.steps + 1)
        written = run.written[search.table].numpy()
        return Written(written[:, 0], written[:, 1 : search.steps + 1], run.totals.numpy(), run.logits)


class Run:
    """The memory of one call: rows of which each has a token, and may write so many on."""

    def __init__(self, tokens: Tensor, totals: NDArray[np.float64], most: int, beams: int, vocab: int) -> None:
        rows = len(tokens)
        self.rows, self.most, self.beams = rows, most, beams
        self.newest, self.totals = tokens.clone(), torch.from_numpy(totals.copy())
        self.written = torch.empty(2, rows, most, dtype=torch.int64)
        self.written[0, :, 0] = torch.arange(rows)
        self.logits = torch.empty(rows, vocab, dtype=torch.float32)
        self.floats = torch.empty(beams + 1, rows, dtype=torch.float32)  # the best logits and the sums
        self.places = torch.empty(beams + 1, rows, dtype=torch.int64)  # the tokens of the best, and parents
        self.candidates = torch.empty(rows, dtype=torch.float64)
        self.origins: Tensor | None = None  # (2, rows, room) of rows that change places

    def struct(self, rules: Rules, head: structs.Matrix, scale: float) -> structs.Search:
        """What step.c is told of it."""
        return structs.Search(
            head=head,
            scale=scale,
            beams=rules.beams,
            eos=rules.eos,
            forbidden=rules.forbidden,
            most=self.most,
            newest=self.newest.data_ptr(),
            totals=self.totals.data_ptr(),
            written=self.written.data_ptr(),
            logits=self.logits.data_ptr(),
            best=self.floats.data_ptr(),
            sums=self.floats[self.beams].data_ptr(),
            places=self.places.data_ptr(),
            parents=self.places[self.beams].data_ptr(),
            candidates=self.candidates.data_ptr(),
        )

    def trace(self, search: structs.Search, place: Place, length: int) -> None:
        """Rows will change places: keep, and tell, in whose row of the cache each token is."""
        self.origins = torch.empty(2, self.rows, place.columns, dtype=torch.int64)
        self.origins[0] = torch.arange(self.rows)[:, None]
        if place.origins is not None:
            self.origins[0, :, :length] = place.origins[:, :length]
        search.origins, search.origins_row = self.origins.data_ptr(), place.columns
