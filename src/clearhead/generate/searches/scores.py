"""How hypotheses are ranked: penalties of length and coverage (Wu et al., 2016, arXiv:1609.08144, section 7)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clearhead.generate.searches.base import Hypothesis
from clearhead.generate.searches.config import SearchConfig
from clearhead.model.packing import ranking

ROWS = 16  # of logits that are exponentiated together
PIECE = 64  # logits

PENALTIES: dict[str, Callable[[int, float], float]] = {
    "average": lambda length, alpha: float(length) ** alpha,
    "gnmt": lambda length, alpha: ((5.0 + length) / 6.0) ** alpha,
}


def divisor(config: SearchConfig, length: int) -> float:
    """What the log-probability of so many tokens is divided by."""
    return PENALTIES[config.penalty](length, config.length_penalty)


def log_sums(logits: Tensor) -> Tensor:
    """The logarithm of the sum of exponentials of each row, (rows, 1); on a CPU twice as fast as logsumexp.

    Few rows at a time, so that what lies between stays in the processor's cache.
    """
    if ranking.ranks(logits):
        return ranking.log_sums(logits)
    return torch.cat([_log_sums(each) for each in torch.split(logits, ROWS)])


def _log_sums(logits: Tensor) -> Tensor:
    peak = logits.amax(dim=1, keepdim=True)
    return (logits - peak).exp_().sum(dim=1, keepdim=True).log_() + peak


def largest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest `count` of each row and their places, best first, each (rows, count).

    They stand in the pieces with the largest peaks, and peaks are quickly found: less to sort than in all of the row.
    """
    rows, vocab = logits.shape
    if ranking.ranks(logits):
        return ranking.largest(logits, count)
    whole = vocab // PIECE
    if whole <= 2 * count:
        best, places = logits.topk(count, dim=1)
        return best, places
    pieces = logits[:, : whole * PIECE].view(rows, whole, PIECE)
    first = pieces.amax(dim=2).topk(count, dim=1).indices * PIECE  # (rows, count), where the best pieces begin
    places = (first[:, :, None] + torch.arange(PIECE, device=logits.device)).flatten(1)
    rest = torch.arange(whole * PIECE, vocab, device=logits.device).expand(rows, -1)
    places = torch.cat([places, rest], dim=1)  # (rows, candidates)
    best, index = logits.gather(1, places).topk(count, dim=1)
    return best, places.gather(1, index)


@dataclass
class Pool:
    """The best hypotheses of one text so far."""

    places: int
    found: list[Hypothesis] = field(default_factory=list)  # best first

    def add(self, hypothesis: Hypothesis) -> None:
        """Let a hypothesis compete for a place."""
        self.found = sorted([*self.found, hypothesis], key=lambda each: -each.score)[: self.places]

    @property
    def bar(self) -> float:
        """The score that a new hypothesis must beat."""
        return self.found[-1].score if len(self.found) == self.places else -torch.inf
