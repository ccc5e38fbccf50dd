"""Beam search: the best few beginnings of each text are written on side by side.

The parts, in the order of a step: `_branch` (the best one-token continuations), `_finish` (those that end enter the
pool of results), `_continue` (the others become the new beams), `_unfinished` and `_keep` (texts that are done leave
the batch). Source: Sutskever et al., 2014, section 3.2; length and coverage penalties: Wu et al., 2016,
arXiv:1609.08144, section 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.generate.searches.base import SEARCHES, Hypothesis, Search
from clearhead.generate.searches.config import SearchConfig
from clearhead.generate.searches.coverage import NoCoverage, covering
from clearhead.generate.searches.scores import Pool, divisor, largest, log_sums
from clearhead.generate.searches.writer import Writer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass
class State:
    """B groups of K beams each, of which a plain beam search has one for each text; T tokens written so far.

    Arrays of NumPy: there are few numbers, and an operator of PyTorch costs more than they do.
    """

    pools: list[Pool]  # B
    tokens: Ints  # (B, K, T)
    totals: Floats  # (B, K) log-probability of each beam, nats
    limits: Ints  # (B,) the most tokens of a hypothesis, end of sentence included
    coverage: NoCoverage
    eos: int


RULES = ("_branch", "best", "_finish", "_continue", "going_on", "_unfinished", "_keep")  # by which beams go on
Branches = tuple[Floats, Ints, Ints]  # totals, the beam that each extends, its token; each (B, candidates)


@SEARCHES.register("beam")
class Beam(Search):
    """The `beams` best beginnings by log-probability.

    A text is done when its pool is full and its best beam, were it to end now, would not enter. That is the
    customary bound and not a proof: with a length penalty a beam may still gain by growing.
    """

    def __init__(self, config: SearchConfig) -> None:
        super().__init__(config)
        self.groups = 1  # searches for each text

    @property
    def width(self) -> int:
        """Beams of one group."""
        return self.config.beams // self.groups

    def run(self, writer: Writer, limits: Sequence[int]) -> list[list[Hypothesis]]:
        with covering(writer.model, self.config.coverage_penalty) as coverage:
            logits = writer.logits(writer.begin()[:, -1])  # (texts, vocab)
            writer.select(torch.zeros(writer.texts, self.groups, dtype=torch.int64, device=logits.device))
            logits = logits.repeat_interleave(self.groups, dim=0)  # (B, vocab)
            state = self._start(limits, coverage, writer)
            pools = state.pools
            while True:
                coverage.look(writer, len(state.pools))
                branches = self._branch(state, logits)
                self._finish(state, branches)
                self._keep(state, writer, self._continue(state, branches))
                if not state.pools:
                    return self._results(pools)
                logits = self._write_on(state, writer)  # (B * K, vocab)

    def _start(self, limits: Sequence[int], coverage: NoCoverage, writer: Writer) -> State:
        """One beam in each group; the first step makes more of it."""
        most = np.repeat(np.asarray(limits, dtype=np.int64), self.groups)  # (B,)
        forced = np.asarray(writer.forced, dtype=np.int64)
        return State(
            pools=[Pool(self.width) for _ in most],
            tokens=np.tile(forced, (len(most), 1, 1)),  # (B, 1, forced)
            totals=np.zeros((len(most), 1)),
            limits=most,
            coverage=coverage,
            eos=writer.eos,
        )

    def _write_on(self, state: State, writer: Writer) -> Tensor:
        """Logits after the newest tokens, or after more of them, if the writer can find those by itself."""
        newest = torch.from_numpy(state.tokens[:, :, -1].flatten()).to(writer.device)
        rows, more, totals, logits = writer.write_on(newest, state.totals.flatten(), self._undisturbed(state))
        if more.shape[1]:
            history = state.tokens.reshape(len(rows), -1)[rows]  # (B * K, T)
            state.tokens = np.concatenate([history, more], axis=1).reshape(*state.totals.shape, -1)
            state.totals = totals.reshape(state.totals.shape)
        return logits

    def _undisturbed(self, state: State) -> int:
        """How many tokens of each beam may be read, newest ones included, before anything but `_continue` has a say.

        The writer may then do what `_branch` and `_continue` do (`model/packing/step/search.h` says it in C). So it is
        1 for a class with rules of its own, for texts whose pools are full, and until there are all beams.
        """
        usual = all(getattr(type(self), name) is getattr(Beam, name) for name in RULES)
        whole = state.totals.shape[1] == self.width and all(each.bar == -np.inf for each in state.pools)
        return int(state.limits.min()) - state.tokens.shape[2] if usual and whole else 1

    def _branch(self, state: State, logits: Tensor) -> Branches:
        """The 2K best continuations of each group, best first; logits: (B * K, vocab)."""
        return self.best(state.totals, logits, log_sums(logits))

    def best(self, totals: Floats, logits: Tensor, sums: Tensor) -> Branches:
        """The 2K best continuations of beams with these totals (B, K), logits (B * K, vocab) and their log-sums."""
        width = min(self.width + 1, logits.shape[1])  # of a beam K go on at most, and one ends
        best, tokens = largest(logits, width)  # (B * K, width)
        branches = totals[:, :, None] + host(best - sums).reshape(*totals.shape, width)
        branches = branches.reshape(len(totals), -1)  # (B, K * width)
        index = np.argsort(-branches, axis=1, kind="stable")[:, : 2 * self.width]
        found = picked(host(tokens).reshape(len(totals), -1), index)
        return picked(branches, index), index // width, found

    def _finish(self, state: State, branches: Branches) -> None:
        """Let continuations that end now, and rank among the first K, compete for the K places of their pool.

        At a text's length limit its best continuations enter as they are, so that every text has results.
        """
        totals, beams, tokens = branches
        length = state.tokens.shape[2] + 1  # tokens written once this step is done
        ends = (tokens == state.eos) | (state.limits <= length)[:, None]
        ends[:, self.width :] = False
        groups, ranks = np.nonzero(ends & np.isfinite(totals))  # each (ended,)
        if not len(groups):
            return
        origin = beams[groups, ranks]
        chosen = np.concatenate([state.tokens[groups, origin], tokens[groups, ranks, None]], axis=1).tolist()
        lacking, by = state.coverage.penalties(groups, origin), divisor(self.config, length)
        for group, ids, total, less in zip(
            groups.tolist(), chosen, totals[groups, ranks].tolist(), lacking, strict=True
        ):
            kept = ids[:-1] if ids[-1] == state.eos else ids
            state.pools[group].add(Hypothesis(kept, total / by + less, total))

    def _continue(self, state: State, branches: Branches) -> Ints:
        """The first K continuations that did not end become the beams; returns the beam that each continues, (B, K)."""
        totals, beams, tokens = branches
        first = self.going_on(tokens, state.eos)  # (B, K)
        totals = np.where(tokens == state.eos, -np.inf, totals)
        state.totals = picked(totals, first)
        beams, tokens = picked(beams, first), picked(tokens, first)  # (B, K)
        history = picked(state.tokens, beams)  # (B, K, T)
        state.tokens = np.concatenate([history, tokens[:, :, None]], axis=2)  # (B, K, T + 1)
        return beams

    def going_on(self, tokens: Ints, eos: int) -> Ints:
        """The places of the first K candidates that do not end, (B, K), filled up with others where they are fewer."""
        return np.argsort(tokens == eos, axis=1, kind="stable")[:, : self.width]

    def _unfinished(self, state: State) -> NDArray[np.bool_]:
        """Which texts need another step, (texts,) bool."""
        length = state.tokens.shape[2]
        best = state.totals.max(axis=1)
        bars = np.asarray([each.bar for each in state.pools])
        attainable = best / divisor(self.config, length)
        unfinished = np.isfinite(best) & (state.limits > length) & (attainable > bars)
        if not all(each.found for each, goes in zip(state.pools, unfinished.tolist(), strict=True) if not goes):
            raise ModelError("the model's logits are not numbers", remedy="look where training diverged")
        goes_on: NDArray[np.bool_] = unfinished.reshape(-1, self.groups).any(axis=1)
        return goes_on

    def _keep(self, state: State, writer: Writer, beams: Ints) -> None:
        """Drop the texts that are done, and bring writer and coverage in the order of the new beams, (B, K)."""
        unfinished = self._unfinished(state)
        first = np.arange(self.groups) * (writer.rows // self.groups)
        rows = (beams.reshape(writer.texts, self.groups, -1) + first[:, None]).reshape(writer.texts, -1)
        kept = np.flatnonzero(unfinished)  # of the texts
        keep = np.flatnonzero(np.repeat(unfinished, self.groups))  # of the groups
        state.coverage.select(keep, beams[keep])
        if len(kept) < writer.texts:
            state.pools = [state.pools[index] for index in keep.tolist()]
            state.tokens, state.totals, state.limits = state.tokens[keep], state.totals[keep], state.limits[keep]
        writer.keep(*(torch.from_numpy(each).to(writer.device) for each in (kept, rows[kept])))

    def _results(self, pools: list[Pool]) -> list[list[Hypothesis]]:
        """The best of each text, whatever group found it."""
        found = [[each for pool in pools[at : at + self.groups] for each in pool.found] for at in self._firsts(pools)]
        return [sorted(each, key=lambda one: -one.score)[: self.config.n_best] for each in found]

    def _firsts(self, pools: list[Pool]) -> range:
        """The first group of each text."""
        return range(0, len(pools), self.groups)


def host(numbers: Tensor) -> NDArray[Any]:
    """The numbers of a tensor on any device as an array; on a CPU nothing is copied."""
    return numbers.cpu().numpy()


def picked(rows: NDArray[Any], places: Ints) -> NDArray[Any]:
    """Of each row (B, candidates, ...) what stands at its places, (B, picked) -> (B, picked, ...)."""
    return rows[np.arange(len(rows))[:, None], places]
