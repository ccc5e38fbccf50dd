"""Token sequences that must not appear."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clearhead.generate.sampling.base import STEPS, Context, Step


@STEPS.register("bad_words")
class BadWords(Step):
    """Forbid the token that would complete one of the sequences; option: value, the sequences of tokens.

    A sequence may begin in the prompt.
    """

    order = 60

    def __init__(self, context: Context, *, value: Sequence[Sequence[int]]) -> None:
        super().__init__(context)
        for word in value:
            context.check(word, "bad_words")
        self.value = value
        self.longest = max(map(len, value))
        self.recent = _last(context.prompt, self.longest - 1)

    def apply(self, logits: Tensor) -> Tensor:
        banned = [word[-1] for word in self.value if _last(self.recent, len(word) - 1) == tuple(word[:-1])]
        return logits.index_fill(0, torch.tensor(banned, dtype=torch.long, device=logits.device), -torch.inf)

    def advance(self, token: int) -> None:
        self.recent = _last((*self.recent, token), self.longest - 1)


def _last(tokens: Sequence[int], count: int) -> tuple[int, ...]:
    return tuple(tokens[max(len(tokens) - count, 0) :])
