"""The units of an account: what a module is given to do, and what it costs."""

from collections.abc import Iterable
from dataclasses import dataclass

from clearhead.model.mask import OPEN, AttentionMask


@dataclass(frozen=True)
class Cost:
    """Floating-point operations."""

    forward: int = 0
    backward: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.forward + other.forward, self.backward + other.backward)


@dataclass(frozen=True, eq=False)
class Work:
    """What a module is given: one sequence."""

    queries: int  # tokens that pass through
    keys: int  # tokens that they look at
    mask: AttentionMask = OPEN  # without padding
    crosses: bool = False  # the keys are another sequence


def product(rows: int, inner: int, columns: int, *, gradients: int = 2) -> Cost:
    """One matrix product; `gradients`: how many of its two factors have one."""
    forward = 2 * rows * inner * columns
    return Cost(forward, gradients * forward)


def total(costs: Iterable[Cost]) -> Cost:
    """Their sum."""
    return sum(costs, Cost())
