"""Learning-rate schedules: update number 1, 2, ... -> learning rate."""

import math
from typing import Protocol

from pydantic import NonNegativeInt, PositiveInt

from clearhead.core.registry import Registry


class Schedule(Protocol):
    """Wiring: peak learning rate, number of updates of the run, d_model."""

    def __call__(self, update: int) -> float:
        """The learning rate of an update, counted from 1."""


SCHEDULES: Registry[Schedule] = Registry("schedule")


@SCHEDULES.register("constant")
class Constant:
    """Linear warm-up over `warmup` updates, then the peak."""

    def __init__(self, peak: float, updates: int, d_model: int, *, warmup: NonNegativeInt = 0) -> None:
        self.peak, self.warmup = peak, warmup

    def __call__(self, update: int) -> float:
        return self.peak * _warm(update, self.warmup)


@SCHEDULES.register("paper")
class Paper:
    """d_model^-0.5 * min(update^-0.5, update * warmup^-1.5), times the peak (Vaswani et al., 2017, section 5.3).

    Set learning_rate to 1 for the formula as printed.
    """

    def __init__(self, peak: float, updates: int, d_model: int, *, warmup: PositiveInt = 4_000) -> None:
        self.factor, self.warmup = peak / math.sqrt(d_model), warmup

    def __call__(self, update: int) -> float:
        return self.factor * min(1 / math.sqrt(update), update / math.pow(self.warmup, 1.5))


@SCHEDULES.register("inverse_sqrt")
class InverseSqrt:
    """Linear warm-up to the peak, then peak * sqrt(warmup / update): the paper's curve named by its height."""

    def __init__(self, peak: float, updates: int, d_model: int, *, warmup: PositiveInt = 4_000) -> None:
        self.peak, self.warmup = peak, warmup

    def __call__(self, update: int) -> float:
        return self.peak * float(min(update / self.warmup, math.sqrt(self.warmup / update)))


@SCHEDULES.register("linear")
class Linear:
    """Linear warm-up to the peak, then linear decay to `floor` times the peak at the last update."""

    def __init__(
        self, peak: float, updates: int, d_model: int, *, warmup: NonNegativeInt = 0, floor: float = 0.0
    ) -> None:
        self.peak, self.updates, self.warmup, self.floor = peak, updates, warmup, floor

    def __call__(self, update: int) -> float:
        left = 1 - _progress(update, self.warmup, self.updates)
        return self.peak * _warm(update, self.warmup) * (self.floor + (1 - self.floor) * left)


@SCHEDULES.register("cosine")
class Cosine:
    """Linear warm-up to the peak, then half a cosine to `floor` times the peak (Loshchilov and Hutter, 2016)."""

    def __init__(
        self, peak: float, updates: int, d_model: int, *, warmup: NonNegativeInt = 0, floor: float = 0.0
    ) -> None:
        self.peak, self.updates, self.warmup, self.floor = peak, updates, warmup, floor

    def __call__(self, update: int) -> float:
        left = 0.5 * (1 + math.cos(math.pi * _progress(update, self.warmup, self.updates)))
        return self.peak * _warm(update, self.warmup) * (self.floor + (1 - self.floor) * left)


def _warm(update: int, warmup: int) -> float:
    return min(1.0, update / warmup) if warmup else 1.0


def _progress(update: int, warmup: int, updates: int) -> float:
    """0 at the end of the warm-up, 1 at the last update."""
    return min(1.0, max(0.0, (update - warmup) / max(1, updates - warmup)))
