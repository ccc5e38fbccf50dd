"""Markov chains whose entropy rate is known exactly (Shannon, 1948, sections 5 to 7)."""

from typing import Literal

import torch
from torch import Tensor

from clearhead.core.errors import ConfigError
from clearhead.core.seeds import derive
from clearhead.data.synthetic.base import IGNORED, TASKS, Samples, Task
from clearhead.data.synthetic.drawing import at_least, cumulated, entropy, pick, uniform

LARGEST = 4096  # contexts whose stationary distribution is solved for


@TASKS.register("markov")
class Markov(Task):
    """A language model's text: each symbol depends on the `order` symbols before it, and on nothing else.

    Ids: 0 is not used (padding elsewhere), 1 to `symbols` the symbols. The chain starts in its stationary
    distribution; the next symbol is asked at each token that closes a full context, so that no asked label is
    harder than the entropy rate, which is `best`. A row of the table is the softmax of `sharpness` times normal
    numbers: 0 gives coins without memory, about 2 (the default) an entropy rate near 1.4 to 1.6 nats for 16 symbols.

    Attributes:
        table: (symbols ** order, symbols) float64, probabilities of the next symbol; the row of a context
            (..., b, a) with a the latest is ... + b * symbols + a, symbols counted from 0.
        stationary: (symbols ** order,) float64, how often each context occurs.

    Args:
        order: symbols that the next one depends on.
        symbols: different symbols there are.
        length: tokens.
        sharpness: of the table.
        seed: of the table.
    """

    def __init__(
        self,
        *,
        order: Literal[1, 2] = 1,
        symbols: int = 16,
        length: int = 32,
        sharpness: float = 2.0,
        seed: int = 0,
    ) -> None:
        at_least(order, length=length)
        at_least(2, symbols=symbols)
        if sharpness < 0 or symbols**order > LARGEST:
            expected = f"sharpness at least 0 and at most {LARGEST} contexts"
            raise ConfigError("no such chain", found=f"{sharpness}, {symbols}**{order}", expected=expected)
        self.order, self.symbols, self.length, self.vocab = order, symbols, length, 1 + symbols
        normal = torch.Generator().manual_seed(derive(seed, "markov"))
        scores = torch.randn(symbols**order, symbols, generator=normal, dtype=torch.float64)
        self.table = (sharpness * scores).softmax(-1)
        self.stationary = stationary(self.table)
        self.best = float(self.stationary @ entropy(self.table))
        self._contexts, self._next = cumulated(self.stationary[None]), cumulated(self.table)

    def draw(self, count: int, generator: torch.Generator) -> Samples:
        numbers = uniform(count, 2 + self.length - self.order, generator)
        context = pick(self._contexts, len(self.table), torch.zeros(count, dtype=torch.int64), numbers[:, 0])
        symbols = [context // self.symbols**back % self.symbols for back in reversed(range(self.order))]
        for number in numbers[:, 1:].unbind(1):
            symbols.append(pick(self._next, self.symbols, context, number))
            context = (context * self.symbols + symbols[-1]) % len(self.table)
        text = 1 + torch.stack(symbols, dim=1)  # (batch, length + 1)
        labels = text[:, 1:].clone()
        labels[:, : self.order - 1] = IGNORED
        return Samples(text[:, :-1], labels)


def stationary(table: Tensor) -> Tensor:
    """How often each context of a chain occurs: (contexts, symbols) → (contexts,), for any order."""
    contexts, symbols = table.shape
    index = torch.arange(contexts)
    following = (index[:, None] * symbols + torch.arange(symbols)) % contexts  # (contexts, symbols)
    flow = torch.zeros(contexts, contexts, dtype=table.dtype).scatter_add_(1, following, table)
    equations = flow.T - torch.eye(contexts, dtype=table.dtype)
    equations[-1] = 1  # the probabilities sum to one; one of the other equations follows from the rest
    right = torch.zeros(contexts, dtype=table.dtype)
    right[-1] = 1
    solution: Tensor = torch.linalg.solve(equations, right)
    return solution.clamp(min=0)
