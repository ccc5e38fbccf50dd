"""Templated dialogues of six domains in which the user may change the subject at a known turn."""

import itertools
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from clearhead.core.errors import ConfigError
from clearhead.data.synthetic.base import IGNORED, TASKS, Samples, Task
from clearhead.data.synthetic.dialog_words import (
    CHOICES,
    DOMAINS,
    END,
    FIRST,
    counts,
    domain_of,
    fillers,
    lexicon,
    templates,
)
from clearhead.data.synthetic.drawing import at_least, at_most, entropy, uniform, whole

CLASSES = {"switch": 2, "domain": len(DOMAINS), "words": None}
LONGEST = 5  # exchanges for which the best loss is still enumerated


@TASKS.register("dialog")
class Dialog(Task):
    """User and system take turns; a turn is a template, filled with words of the domain, or says nothing of it.

        tokens  <user> i want to book a flight <end> <system> of course <end> <user> ...
        labels  ask switch: at each <end>, 1 if this turn begins another domain, else 0
                ask domain: at each <end>, the domain of the turn        ask words: the next token

    A domain is drawn for the first turn; in a share of the dialogues the user once takes up another one, at any later
    turn of theirs, and the system follows. A turn with a slot gives its domain away, a neutral one does not.
    `best` is exact for a model that reads from left to right (one that sees later turns can do better), and not known
    for words. Ids: 0 padding, 1 user, 2 system, 3 end of a turn, then the words.

    Args:
        exchanges: turns of the user, each followed by one of the system.
        switches: share of the dialogues with a change of domain; 0 with a single exchange.
        neutral: share of the turns that say nothing of the domain.
        ask: what the labels are.
    """

    def __init__(
        self,
        *,
        exchanges: int = 3,
        switches: float = 0.3,
        neutral: float = 0.25,
        ask: Literal["switch", "domain", "words"] = "switch",
    ) -> None:
        at_least(2, exchanges=exchanges)
        at_most(LONGEST, "or the best loss takes too long", exchanges=exchanges)
        if not 0 <= switches <= 1 or not 0 <= neutral <= 1:
            found = f"{switches}, {neutral}"
            raise ConfigError("no such dialogues", found=found, expected="switches and neutral between 0 and 1")
        self.exchanges, self.turns, self.ask = exchanges, 2 * exchanges, ask
        self.switches, self.neutral = switches, neutral
        self.vocab, self.classes = FIRST + len(lexicon()), CLASSES[ask]
        self.histories, self.prior = self._histories()
        self._ids, self._slots = templates(), fillers()
        self._told = torch.tensor([-1] * FIRST + [domain_of(word) for word in lexicon()])
        self.best = None if ask == "words" else self._best()

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        width = self._ids.shape[-1]
        numbers = uniform(count, 4 + self.turns * (2 + width), generator)
        domains = self._domains(numbers[:, :4])  # (batch, turns)
        for_turns = numbers[:, 4:].view(count, self.turns, 2 + width)
        words = self._words(domains, for_turns)  # (batch, turns, width)
        tokens = _packed(words.flatten(1))
        valid = tokens != 0
        if self.ask == "words":
            following = functional.pad(tokens, (0, 1))[:, 1:]
            return Samples(tokens, following.where(following != 0, IGNORED), valid)
        labels = torch.full_like(tokens, IGNORED)
        labels[tokens == END] = self._answers(domains).flatten()
        return Samples(tokens, labels, valid)

    def evidence(self, tokens: Tensor) -> Tensor:
        """(batch, length) → (batch, turns): the domain that each turn gives away, -1 for none."""
        turn = ((tokens == 1) | (tokens == 2)).cumsum(1) - 1  # (batch, length)
        empty = torch.full((len(tokens), self.turns), -1)
        return empty.scatter_reduce(1, turn.clamp(min=0), self._told[tokens], "amax")

    def posterior(self, evidence: Tensor) -> Tensor:
        """(batch, turns) → (batch, turns, histories) float64: how likely each history is after each turn."""
        agrees = (evidence[:, :, None] == self.histories.T) | (evidence[:, :, None] == -1)
        weights = self.prior * agrees.cumprod(1)
        return weights / weights.sum(-1, keepdim=True)

    def answers_of(self, posterior: Tensor) -> Tensor:
        """(batch, turns, histories) → (batch, turns, classes): how likely each answer is."""
        assert self.classes is not None
        answers = functional.one_hot(self._answers(self.histories), self.classes)  # (histories, turns, classes)
        return torch.einsum("bth,htc->btc", posterior, answers.double())

    def _answers(self, domains: Tensor) -> Tensor:
        """(batch, turns) domains → (batch, turns) labels."""
        if self.ask == "domain":
            return domains
        return functional.pad((domains[:, 1:] != domains[:, :-1]).long(), (1, 0))

    def _histories(self) -> tuple[Tensor, Tensor]:
        """Every course of domains, (histories, turns), and its probability."""
        count, later = len(DOMAINS), range(2, self.turns, 2)
        constant = [([a] * self.turns, (1 - self.switches) / count) for a in range(count)]
        share = self.switches / (count * (count - 1) * len(later))
        pairs = itertools.permutations(range(count), 2)
        changing = [([a] * t + [b] * (self.turns - t), share) for a, b in pairs for t in later]
        histories, prior = zip(*constant, *changing, strict=True)
        return torch.tensor(histories), torch.tensor(prior, dtype=torch.float64)

    def _domains(self, uniforms: Tensor) -> Tensor:
        """(batch, 4) → (batch, turns)."""
        first = whole(uniforms[:, :1], len(DOMAINS))  # (batch, 1)
        second = (first + 1 + whole(uniforms[:, 1:2], len(DOMAINS) - 1)) % len(DOMAINS)
        begin = 2 + 2 * whole(uniforms[:, 2:3], self.exchanges - 1)
        changed = (torch.arange(self.turns) >= begin) & (uniforms[:, 3:] < self.switches)
        return torch.where(changed, second, first)

    def _words(self, domains: Tensor, uniforms: Tensor) -> Tensor:
        """Speaker, words and end of each turn: (batch, turns) and (batch, turns, 2 + width) → (batch, turns, width)."""
        speaker = torch.arange(self.turns) % 2  # (turns,)
        neutral = (uniforms[:, :, 0] < self.neutral).long()  # (batch, turns)
        chosen = whole(uniforms[:, :, 1], torch.tensor([counts(0), counts(1)])[neutral])
        ids = self._ids[neutral, speaker, chosen]  # (batch, turns, width): ids of words, or -1 - slot
        choice = whole(uniforms[:, :, 2:], CHOICES)
        filled = self._slots[domains[:, :, None], (-1 - ids).clamp(min=0), choice]
        return torch.where(ids < 0, filled, ids)

    def _best(self) -> float:
        """All patterns of neutral turns with all histories that begin with domain 0 and may change to domain 1."""
        later = range(2, self.turns, 2)
        histories = [[0] * t + [1] * (self.turns - t) for t in (*later, self.turns)]
        weights = [self.switches / len(later)] * len(later) + [1 - self.switches]
        total = 0.0
        told = torch.tensor(list(itertools.product([True, False], repeat=self.turns)))  # (patterns, turns)
        shares = torch.where(told, 1 - self.neutral, self.neutral).double().prod(1)
        for history, weight in zip(histories, weights, strict=True):
            evidence = torch.where(told, torch.tensor(history), -1)
            nats = entropy(self.answers_of(self.posterior(evidence))).mean(1)  # (patterns,)
            total += weight * float(shares @ nats) if weight else 0.0
        return total


def _packed(words: Tensor) -> Tensor:
    """Move the padding of each row behind its words, which keep their order."""
    return words.gather(1, (words == 0).long().argsort(dim=1, stable=True))
