"""Beam search: the best few beginnings of each text are written on side by side.

The parts, in the order of a step: `_branch` (the best one-token continuations), `_finish` (those that end enter the
pool of results), `_continue` (the others become the new beams), `_unfinished` and `_keep` (texts that are done leave
the batch). Source: Sutskever et al., 2014, section 3.2; length and coverage penalties: Wu et al., 2016,
arXiv:1609.08144, section 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.generate.searches.base import SEARCHES, Hypothesis, Search
from clearhead.generate.searches.config import SearchConfig
from clearhead.generate.searches.coverage import NoCoverage, covering
from clearhead.generate.searches.scores import Pool, divisor, largest, log_sums
from clearhead.generate.searches.writer import Writer


@dataclass
class State:
    """B groups of K beams each, of which a plain beam search has one for each text; T tokens written so far."""

    pools: list[Pool]  # B
    tokens: Tensor  # (B, K, T)
    totals: Tensor  # (B, K) log-probability of each beam, nats
    limits: Tensor  # (B,) the most tokens of a hypothesis, end of sentence included
    coverage: NoCoverage
    eos: int


Branches = tuple[Tensor, Tensor, Tensor]  # totals, the beam that each extends, its token; each (B, candidates)


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
            state = self._start(logits, limits, coverage, writer)
            pools = state.pools
            while True:
                coverage.look(writer, len(state.pools))
                branches = self._branch(state, logits)
                self._finish(state, branches)
                self._keep(state, writer, self._continue(state, branches))
                if not state.pools:
                    return self._results(pools)
                logits = writer.logits(writer.advance(state.tokens[:, :, -1].flatten()))  # (B * K, vocab)

    def _start(self, logits: Tensor, limits: Sequence[int], coverage: NoCoverage, writer: Writer) -> State:
        """One beam in each group; the first step makes more of it."""
        most = torch.tensor(limits, device=logits.device).repeat_interleave(self.groups)  # (B,)
        return State(
            pools=[Pool(self.width) for _ in most],
            tokens=most.new_tensor(writer.forced, dtype=torch.int64).repeat(len(most), 1, 1),  # (B, 1, forced)
            totals=logits.new_zeros(len(most), 1),
            limits=most,
            coverage=coverage,
            eos=writer.eos,
        )

    def _branch(self, state: State, logits: Tensor) -> Branches:
        """The 2K best continuations of each group, best first; logits: (B * K, vocab)."""
        return self.best(state.totals, logits, log_sums(logits))

    def best(self, totals: Tensor, logits: Tensor, sums: Tensor) -> Branches:
        """The 2K best continuations of beams with these totals (B, K), logits (B * K, vocab) and their log-sums."""
        width = min(self.width + 1, logits.shape[1])  # of a beam K go on at most, and one ends
        best, tokens = largest(logits, width)  # (B * K, width)
        totals = (totals[:, :, None] + (best - sums).view(*totals.shape, width)).flatten(1)  # (B, K * width)
        totals, index = totals.topk(min(2 * self.width, totals.shape[1]), dim=1)
        return totals, index // width, tokens.view(len(totals), -1).gather(1, index)

    def _finish(self, state: State, branches: Branches) -> None:
        """Let continuations that end now, and rank among the first K, compete for the K places of their pool.

        At a text's length limit its best continuations enter as they are, so that every text has results.
        """
        totals, beams, tokens = branches
        length = state.tokens.shape[2] + 1  # tokens written once this step is done
        ends = (tokens == state.eos) | (state.limits <= length)[:, None]
        ends[:, self.width :] = False
        groups, ranks = (ends & totals.isfinite()).nonzero(as_tuple=True)  # each (ended,)
        origin = beams[groups, ranks]
        chosen = torch.cat([state.tokens[groups, origin], tokens[groups, ranks, None]], dim=1).tolist()
        lacking, by = state.coverage.penalties(groups, origin), divisor(self.config, length)
        for group, ids, total, less in zip(
            groups.tolist(), chosen, totals[groups, ranks].tolist(), lacking, strict=True
        ):
            kept = ids[:-1] if ids[-1] == state.eos else ids
            state.pools[group].add(Hypothesis(kept, total / by + less, total))

    def _continue(self, state: State, branches: Branches) -> Tensor:
        """The first K continuations that did not end become the beams; returns the beam that each continues, (B, K)."""
        totals, beams, tokens = branches
        first = self.going_on(tokens, state.eos)  # (B, K)
        state.totals = totals.masked_fill(tokens == state.eos, -torch.inf).gather(1, first)
        beams, tokens = beams.gather(1, first), tokens.gather(1, first)  # (B, K)
        history = state.tokens.gather(1, beams[:, :, None].expand(-1, -1, state.tokens.shape[2]))
        state.tokens = torch.cat([history, tokens[:, :, None]], dim=2)  # (B, K, T + 1)
        return beams

    def going_on(self, tokens: Tensor, eos: int) -> Tensor:
        """The places of the first K candidates that do not end, (B, K), filled up with others where they are fewer."""
        return (tokens == eos).sort(dim=1, stable=True).indices[:, : self.width]

    def _unfinished(self, state: State) -> Tensor:
        """Which texts need another step, (texts,) bool."""
        length = state.tokens.shape[2]
        best = state.totals.amax(dim=1)
        bars = torch.tensor([each.bar for each in state.pools], dtype=best.dtype, device=best.device)
        attainable = best / divisor(self.config, length)
        unfinished = best.isfinite() & (state.limits > length) & (attainable > bars)
        if not all(each.found for each, goes in zip(state.pools, unfinished.tolist(), strict=True) if not goes):
            raise ModelError("the model's logits are not numbers", remedy="look where training diverged")
        return unfinished.view(-1, self.groups).any(dim=1)

    def _keep(self, state: State, writer: Writer, beams: Tensor) -> None:
        """Drop the texts that are done, and bring writer and coverage in the order of the new beams, (B, K)."""
        unfinished = self._unfinished(state)
        first = torch.arange(self.groups, device=beams.device) * (writer.rows // self.groups)
        rows = (beams.view(writer.texts, self.groups, -1) + first[:, None]).flatten(1)  # (texts, groups * K)
        keep = unfinished.repeat_interleave(self.groups).nonzero()[:, 0]  # of the groups
        state.coverage.select(keep, beams[keep])
        state.pools = [state.pools[index] for index in keep.tolist()]
        state.tokens, state.totals, state.limits = state.tokens[keep], state.totals[keep], state.limits[keep]
        kept = unfinished.nonzero()[:, 0]
        writer.keep(kept, rows[kept])

    def _results(self, pools: list[Pool]) -> list[list[Hypothesis]]:
        """The best of each text, whatever group found it."""
        found = [[each for pool in pools[at : at + self.groups] for each in pool.found] for at in self._firsts(pools)]
        return [sorted(each, key=lambda one: -one.score)[: self.config.n_best] for each in found]

    def _firsts(self, pools: list[Pool]) -> range:
        """The first group of each text."""
        return range(0, len(pools), self.groups)
