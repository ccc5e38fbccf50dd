"""Random choices as functions of uniform numbers, a row of them for each example.

A task asks the generator once for all numbers of a draw. Therefore an example does not depend on how many are drawn
with it: a draw of 5 begins with the examples that a draw of 3 gives.
"""

import torch
from torch import Tensor

from clearhead.core.errors import ConfigError

GRID = 2**32


def uniform(count: int, width: int, generator: torch.Generator) -> Tensor:
    """(count, width) float64 in [0, 1), multiples of 2 ** -32, so that adding a row number in `pick` is exact."""
    numbers = torch.rand(count, width, generator=generator, dtype=torch.float64)
    return (numbers * GRID).floor_() / GRID


def whole(uniforms: Tensor, size: int | Tensor) -> Tensor:
    """Whole numbers from 0 to size - 1, all equally likely, in the shape of `uniforms`."""
    return (uniforms * size).long()


def distinct(uniforms: Tensor, count: int) -> Tensor:
    """(batch, choices) → (batch, count): different whole numbers below `choices`, in random order."""
    return uniforms.argsort(dim=-1)[..., :count]


def cumulated(table: Tensor) -> Tensor:
    """Distributions (rows, choices) as one ascending line for `pick`: row r lies between r and r + 1."""
    sums = table.double().cumsum(-1)
    sums = sums / sums[:, -1:]  # ends at 1 exactly
    return (sums + torch.arange(len(table))[:, None]).flatten()  # (rows * choices)


def pick(line: Tensor, choices: int, rows: Tensor, uniforms: Tensor) -> Tensor:
    """A choice from row `rows` of a cumulated table for each uniform number; `rows` and `uniforms` have one shape."""
    return torch.searchsorted(line, rows + uniforms, right=True) - rows * choices


def entropy(table: Tensor) -> Tensor:
    """(..., choices) → (...): nats."""
    nats: Tensor = torch.special.entr(table).sum(-1)
    return nats


def at_least(least: int, **options: int | None) -> None:
    """Refuse options that are too small; None is not looked at.

    Raises:
        ConfigError: names the option.
    """
    for name, value in options.items():
        if value is not None and value < least:
            raise ConfigError(f"the option {name} is too small", found=value, expected=f"at least {least}")


def at_most(limit: int, reason: str, **options: int | None) -> None:
    """Refuse options that are too large; `reason` says what the limit is.

    Raises:
        ConfigError: names the option.
    """
    for name, value in options.items():
        if value is not None and value > limit:
            raise ConfigError(f"the option {name} is too large", found=value, expected=f"at most {limit}, {reason}")
