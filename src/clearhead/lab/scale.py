"""How much of an experiment runs: a few seconds for tests, or what a verdict needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Scale:
    """`quick` takes seconds and serves tests; `full` takes up to two minutes on two cores and decides."""

    name: Literal["quick", "full"]
    seed_list: int = 0  # another list gives other seeds; verdicts must not depend on it

    def pick(self, *, quick: Value, full: Value) -> Value:
        """The value for this scale."""
        return quick if self.name == "quick" else full

    def seeds(self, *, quick: int, full: int) -> Iterator[int]:
        """So many seeds of this list."""
        return iter(range(1000 * self.seed_list, 1000 * self.seed_list + self.pick(quick=quick, full=full)))
