"""A probabilistic grammar without endless recursion, as the automaton that foresees its sentences exactly.

What may still come after the first words of a sentence is a belief: stacks of symbols with their probabilities. A
grammar without endless recursion has finitely many beliefs, so they can be numbered; each word leads from one to the
next (weighted determinisation, Mohri, 1997, section 3). The automaton therefore knows the exact probability of each
next word given all words before, with every hidden choice of the grammar (number, topic) summed out.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from clearhead.data.synthetic.drawing import cumulated, entropy, pick

Stack = tuple[str, ...]  # symbols still to be written out, the next one first
Rules = Mapping[str, Sequence[tuple[float, Stack]]]  # symbol → weights and bodies; what is no symbol is a word
Belief = tuple[tuple[Stack, float], ...]  # sorted by stack, probabilities sum to one

START, END = 0, 1  # states: before the first word of a sentence, behind its last


class Automaton:
    """Draws and scores sentences.

    Attributes:
        probabilities: (states, vocab) float64 of the next word; behind the end only padding, id 0, follows.
        following: (states, vocab) int64, the next state.

    Args:
        rules: the grammar; it must have no endless recursion.
        start: the symbol of a sentence.
        ids: of each word; 0 is padding.
        vocab: all ids are below.
    """

    def __init__(self, rules: Rules, start: str, ids: Mapping[str, int], vocab: int) -> None:
        arcs = list(_arcs(rules, start))
        states = 1 + max(state for state, *_ in arcs)
        self.probabilities = torch.zeros(states, vocab, dtype=torch.float64)
        self.following = torch.zeros(states, vocab, dtype=torch.int64)
        self.probabilities[END, 0], self.following[END, 0] = 1.0, END
        for state, word, probability, after in arcs:
            self.probabilities[state, ids[word]], self.following[state, ids[word]] = probability, after
        self._line, self._log = cumulated(self.probabilities), self.probabilities.log()

    def draw(self, uniforms: Tensor, *, restart: bool) -> Tensor:
        """Words from the start of a sentence on, (batch, length) int64, as many as uniform numbers.

        After a sentence comes padding, or with `restart` the next sentence.
        """
        state, words = torch.full((len(uniforms),), START), []
        for numbers in uniforms.unbind(1):
            words.append(pick(self._line, self.probabilities.shape[1], state, numbers))
            state = self._after(state, words[-1], restart=restart)
        return torch.stack(words, dim=1)

    def states(self, words: Tensor, *, restart: bool) -> Tensor:
        """(batch, length) int64: the state before each word of texts that begin with a sentence."""
        state, visited = torch.full((len(words),), START), []
        for word in words.unbind(1):
            visited.append(state)
            state = self._after(state, word, restart=restart)
        return torch.stack(visited, dim=1)

    def _after(self, state: Tensor, word: Tensor, *, restart: bool) -> Tensor:
        after = self.following[state, word]
        return torch.where(after == END, START, after) if restart else after

    def log_probabilities(self, words: Tensor, *, restart: bool) -> Tensor:
        """(batch, length) float64: of each word given all words before; -inf for what cannot follow."""
        return self._log[self.states(words, restart=restart), words]

    def nats_of_text(self, length: int) -> float:
        """Exact entropy per word of the first `length` words of a text of sentences."""
        moves, surprise = self._moves(), entropy(self.probabilities)
        moves[:, START] += moves[:, END]
        moves[:, END] = 0
        state, total = torch.eye(len(moves), dtype=torch.float64)[START], 0.0
        for _ in range(length):
            total += float(state @ surprise)
            state = state @ moves
        return total / length

    def nats_of_sentences(self) -> float:
        """Exact entropy of a sentence divided by its mean number of words."""
        visits = self._visits(self.probabilities)
        return float(visits @ entropy(self.probabilities) / visits.sum())

    def share_within(self, words: Sequence[int]) -> float:
        """Exact probability that a sentence has no other words than these ids."""
        allowed = torch.zeros_like(self.probabilities)
        allowed[:, list(words)] = self.probabilities[:, list(words)]
        last = torch.where(self.following == END, allowed, 0).sum(1)
        last[END] = 0
        return float(self._visits(allowed) @ last)

    def longest(self) -> int:
        """Words of the longest sentence."""
        possible, state, count = self._moves() > 0, {START}, 0
        while state - {END}:
            state = {int(after) for before in state for after in possible[before].nonzero()}
            count += 1
        return count

    def _visits(self, probabilities: Tensor) -> Tensor:
        """(states,) float64: how often a sentence passes each state but the end."""
        moves = self._moves(probabilities)
        moves[:, END] = 0
        first = torch.eye(len(moves), dtype=torch.float64)[START]
        visits: Tensor = torch.linalg.solve(torch.eye(len(moves), dtype=torch.float64) - moves.T, first)
        return visits

    def _moves(self, probabilities: Tensor | None = None) -> Tensor:
        """(states, states) float64: probabilities of the next state."""
        given = self.probabilities if probabilities is None else probabilities
        moves = torch.zeros(len(given), len(given), dtype=torch.float64)
        return moves.scatter_add_(1, self.following, given)


def _arcs(rules: Rules, start: str) -> Iterator[tuple[int, str, float, int]]:
    """Every step there is: state, word, probability of the word, next state."""
    known: dict[Belief, int] = {(((start,), 1.0),): START, (((), 1.0),): END}
    waiting = [belief for belief, state in known.items() if state == START]
    expanded: dict[Stack, list[tuple[str, Stack, float]]] = {}
    while waiting:
        belief = waiting.pop()
        for word, probability, after in _steps(rules, belief, expanded):
            if after not in known:
                known[after] = len(known)
                waiting.append(after)
            yield known[belief], word, probability, known[after]


def _steps(
    rules: Rules, belief: Belief, expanded: dict[Stack, list[tuple[str, Stack, float]]]
) -> Iterator[tuple[str, float, Belief]]:
    """Each word that can follow a belief, its probability, and the belief after it."""
    found: dict[str, dict[Stack, float]] = defaultdict(lambda: defaultdict(float))
    for stack, weight in belief:
        if stack not in expanded:
            expanded[stack] = list(_leaves(rules, stack))
        for word, rest, probability in expanded[stack]:
            found[word][rest] += weight * probability
    for word, rests in found.items():
        total = sum(rests.values())
        yield word, total, tuple(sorted((rest, round(each / total, 12)) for rest, each in rests.items()))


def _leaves(rules: Rules, stack: Stack) -> Iterator[tuple[str, Stack, float]]:
    """Write the first symbol out until a word comes first: the word, the stack behind it, the probability."""
    first, rest = stack[0], stack[1:]
    if first not in rules:
        yield first, rest, 1.0
        return
    total = sum(weight for weight, _ in rules[first])
    for weight, body in rules[first]:
        for word, remaining, probability in _leaves(rules, body + rest):
            yield word, remaining, probability * weight / total
