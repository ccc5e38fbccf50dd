"""The doorway of the drafters: what was written so far in, guesses of the next tokens out."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from clearhead.core.registry import Registry
from clearhead.generate.sampling import Chooser
from clearhead.model import Transformer


@dataclass(frozen=True, eq=False)
class Proposal:
    """A guess of one token."""

    token: int
    probabilities: Tensor | None = None  # (vocab,), what it was drawn from; None = there was no choice


class Drafter:
    """Guesses what a model will say. Wiring: the model, a small model if there is one, the source of the text."""

    def __init__(self, model: Transformer, draft: Transformer | None, source: Sequence[int] | None) -> None:
        self.model, self.draft, self.source = model, draft, source

    def propose(self, written: Sequence[int], chooser: Chooser, count: int, eos: int | None) -> list[Proposal]:
        """At most `count` guesses, one after the other; none after the end of the text.

        Args:
            written: all that the decoder of the model has read or chosen.
            chooser: of the request, in the state after `written`; the drafter's own, to be moved on at will.
        """
        raise NotImplementedError


DRAFTERS: Registry[Drafter] = Registry("drafter")
