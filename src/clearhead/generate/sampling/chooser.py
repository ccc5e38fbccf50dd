"""The choice of one request's next token, again and again."""

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.generate.sampling.base import STEPS, Context, Step
from clearhead.generate.sampling.config import SamplingConfig
from clearhead.generate.sampling.spelling import Spelling


class Chosen(NamedTuple):
    """One chosen token."""

    token: int
    log_probability: float  # nats, of the model itself, before any sampler step


class Chooser:
    """The state of one request between its tokens: counts for the penalties, random numbers, the place in a grammar.

    The same seed and the same logits give the same tokens, in whatever batch the request is served: the random
    numbers are its own, one for each token.

    Args:
        config: what to do.
        prompt: the tokens that the decoder has read; of an encoder-decoder those before the first one chosen.
        vocab: the number of logits.
        eos: the token that ends a text; None = there is none.
        spelling: the bytes of each token, for a constraint.

    Raises:
        ModelError: a token is none of the vocabulary's, or a constraint cannot be kept.
    """

    def __init__(
        self,
        config: SamplingConfig,
        prompt: Sequence[int],
        *,
        vocab: int,
        eos: int | None,
        spelling: Spelling | None = None,
    ) -> None:
        context = Context(prompt=prompt, vocab=vocab, eos=eos, spelling=spelling)
        context.check(prompt, "the prompt")
        steps = [STEPS.get(each.kind)(context, **each.options) for each in config.choices()]
        self._steps: list[Step] = sorted(steps, key=lambda each: each.order)
        self._greedy = config.greedy
        self._generator = torch.Generator()
        self._generator.manual_seed(int(torch.randint(2**63 - 1, ())) if config.seed is None else config.seed)
        self.plain = self._greedy and not self._steps  # nothing but the largest logit counts

    def choose(self, logits: Tensor) -> Chosen:
        """Choose the next token and remember it; logits: (vocab,) float32, not changed.

        Raises:
            ModelError: the logits are not numbers, or every token is forbidden.
        """
        token = int(self.shaped(logits).argmax()) if self._greedy else self.draw(self.probabilities(logits))
        self.advance(token)
        return Chosen(token, float(logits[token] - logits.logsumexp(dim=0)))

    def shaped(self, logits: Tensor) -> Tensor:
        """What the sampler steps make of the logits, (vocab,)."""
        shaped = logits
        for step in self._steps:
            shaped = step.apply(shaped)
        if not math.isfinite(shaped.max()):
            raise _nothing_left(logits)
        return shaped

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution that the next token comes from, (vocab,); greedy: all on one token."""
        shaped = self.shaped(logits)
        if not self._greedy:
            return shaped.softmax(dim=0)
        return torch.zeros_like(shaped).index_fill_(0, shaped.argmax(), 1.0)

    def draw(self, probabilities: Tensor) -> int:
        """A token from a distribution, (vocab,), which need not sum to 1, by the request's own random numbers."""
        sums = probabilities.cumsum(dim=0, dtype=torch.float64)  # (vocab,)
        total = float(sums[-1])
        place = min(self.uniform() * total, math.nextafter(total, 0.0))
        return int(torch.searchsorted(sums, place, right=True))

    def uniform(self) -> float:
        """The request's next random number, in [0, 1)."""
        return float(torch.rand((), generator=self._generator, dtype=torch.float64))

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens, by the request's own random numbers."""
        return self.uniform() < probability

    def advance(self, token: int) -> None:
        """Remember that this token was chosen."""
        for step in self._steps:
            step.advance(token)

    def fork(self) -> "Chooser":
        """A chooser in the same state that goes on by itself; the random numbers stay shared."""
        other = copy.copy(self)
        other._steps = [each.fork() for each in self._steps]
        return other

    @staticmethod
    def top(logits: Tensor, k: int) -> list[tuple[int, float]]:
        """The k most probable tokens of the model itself with their log-probabilities (nats), best first."""
        best, tokens = logits.topk(min(k, len(logits)))
        return list(zip(tokens.tolist(), (best - logits.logsumexp(dim=0)).tolist(), strict=True))


def _nothing_left(logits: Tensor) -> ModelError:
    if math.isfinite(logits.max()):
        return ModelError("every token is forbidden", remedy="loosen bad_words or the constraint")
    return ModelError("the model's logits are not numbers", remedy="look where training diverged")
