"""The doorway of the sampler steps: the logits of one request's next token in, changed logits out."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.core.registry import Registry
from clearhead.generate.sampling.spelling import Spelling


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a step may know of its request."""

    prompt: Sequence[int]  # what the decoder has read
    vocab: int
    eos: int | None = None
    spelling: Spelling | None = None  # the bytes of each token, for constraints

    def check(self, tokens: Sequence[int], what: str) -> None:
        """Refuse tokens that the vocabulary does not have."""
        for token in tokens:
            if not 0 <= token < self.vocab:
                raise ModelError(f"{what} names an unknown token", found=token, expected=f"0 to {self.vocab - 1}")


class Step:
    """One change of the logits of one request; it keeps what it must remember of that request's tokens.

    Wiring: the context of the request. Steps run in the order of their `order`.
    """

    order: ClassVar[int] = 50
    samples: ClassVar[bool] = False  # shapes the distribution only, so it has no say in greedy search

    def __init__(self, context: Context) -> None:
        self.context = context

    def apply(self, logits: Tensor) -> Tensor:
        """(vocab,) floats -> (vocab,), -inf for what is forbidden. What is given must not be changed."""
        raise NotImplementedError

    def advance(self, token: int) -> None:
        """Note that this token was chosen."""

    def fork(self) -> "Step":
        """A step in the same state that goes on by itself."""
        return copy.copy(self)


STEPS: Registry[Step] = Registry("sampler step")


def forbid(logits: Tensor, forbidden: Tensor) -> Tensor:
    """-inf where a (vocab,) bool is True."""
    return logits.masked_fill(forbidden, -float("inf"))
