"""The doorway of constraints: what a text must be, asked token by token."""

from typing import Protocol

from torch import Tensor

from clearhead.core.registry import Registry
from clearhead.generate.sampling.base import Context


class Matcher(Protocol):
    """The place of one text in its constraint."""

    def allowed(self) -> Tensor:
        """Which tokens may come next, (vocab,) bool on the CPU; the end of text only where the text is complete."""

    def advance(self, token: int) -> None:
        """Note that this token was chosen."""

    def fork(self) -> "Matcher":
        """A matcher at the same place that goes on by itself."""


class Constraint:
    """What the whole output of a request must be; its options say it."""

    def matcher(self, context: Context) -> Matcher:
        """The beginning of a text.

        Raises:
            ConfigError: what the options say is wrong, or needs a library that is not installed.
            ModelError: the request cannot be constrained: its tokens' bytes or its end of text are not known.
        """
        raise NotImplementedError


CONSTRAINTS: Registry[Constraint] = Registry("constraint")
