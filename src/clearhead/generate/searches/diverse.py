"""Diverse beam search: groups that keep out of each other's way (Vijayakumar et al., 2016, arXiv:1610.02424)."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, FiniteFloat, PositiveInt
from torch import Tensor

from clearhead.core.errors import ConfigError
from clearhead.generate.searches.base import SEARCHES
from clearhead.generate.searches.beam import Beam, Branches, Floats, State, host
from clearhead.generate.searches.config import SearchConfig
from clearhead.generate.searches.scores import log_sums


@SEARCHES.register("diverse")
class DiverseBeam(Beam):
    """The beams are cut into groups; a group is held back from tokens that earlier groups choose at the same step.

    What a token loses is the Hamming term of the paper: `diversity` for each beam of an earlier group that takes it.
    It decides which beams go on and which end, and is no part of a hypothesis's log-probability. A group goes on
    until all groups of its text are done. Two groups may end with the same text; each has its places among the results.

    Args:
        groups: how many; divides the number of beams.
        diversity: the paper's lambda, in nats.
    """

    def __init__(
        self,
        config: SearchConfig,
        *,
        groups: PositiveInt = 2,
        diversity: Annotated[FiniteFloat, Field(ge=0.0)] = 0.5,
    ) -> None:
        super().__init__(config)
        if config.beams % groups:
            found = f"{config.beams} beams, {groups} groups"
            raise ConfigError(
                "groups of beams must be equal", found=found, remedy=f"set beams to a multiple of {groups}"
            )
        self.groups, self.diversity = groups, diversity

    def _branch(self, state: State, logits: Tensor) -> Branches:
        """Group after group; candidates stand in the order of what is left of their totals."""
        totals = state.totals.reshape(-1, self.groups, state.totals.shape[1])  # (texts, groups, K)
        by_group = logits.view(*totals.shape, -1)  # (texts, groups, K, vocab)
        held = logits.new_zeros(len(totals), logits.shape[1])  # (texts, vocab) nats
        found: list[Branches] = []
        for group in range(self.groups):
            found.append(self._held_back(totals[:, group], by_group[:, group].flatten(0, 1), held))
            self._hold(held, found[-1], state.eos)
        stacked = [np.stack(each, axis=1).reshape(len(state.totals), -1) for each in zip(*found, strict=True)]
        return stacked[0], stacked[1], stacked[2]

    def _held_back(self, totals: Floats, logits: Tensor, held: Tensor) -> Branches:
        """The 2K best of one group of each text by totals less what is held back; the totals returned are whole."""
        lowered = logits - held.repeat_interleave(totals.shape[1], dim=0)
        left, beams, tokens = self.best(totals, lowered, log_sums(logits))
        return left + np.take_along_axis(host(held), tokens, axis=1), beams, tokens

    def _hold(self, held: Tensor, branches: Branches, eos: int) -> None:
        """Hold later groups back from the tokens that this one goes on with."""
        _, _, tokens = branches
        tokens = np.take_along_axis(tokens, self.going_on(tokens, eos), axis=1)  # (texts, K)
        weights = torch.from_numpy(self.diversity * (tokens != eos)).to(held)
        held.scatter_add_(1, torch.from_numpy(tokens).to(held.device), weights)
