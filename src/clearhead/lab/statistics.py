"""The few statistics that verdicts rest on: paired intervals, equivalence, exponents. 95 % unless said otherwise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    mean: float
    low: float
    high: float
    count: int  # values it rests on

    def excludes(self, value: float = 0.0) -> bool:
        """True if the value lies outside; an interval of a single number never excludes anything."""
        return self.low > value or self.high < value

    @property
    def above(self) -> bool:
        """True if all of it is above 0."""
        return self.low > 0.0

    @property
    def below(self) -> bool:
        """True if all of it is below 0."""
        return self.high < 0.0

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean with Student's t interval; infinite with fewer than two values, or with one that is not finite.

    For two variants pass their differences paired by seed (`Rows.paired`).
    """
    numbers = np.asarray(values, dtype=np.float64)
    mean = float(numbers.mean()) if len(numbers) else float("nan")
    if len(numbers) < 2 or not np.isfinite(numbers).all():
        return Interval(mean, -np.inf, np.inf, len(numbers))
    half = float(stats.t.ppf((1.0 + level) / 2.0, len(numbers) - 1) * numbers.std(ddof=1) / np.sqrt(len(numbers)))
    return Interval(mean, mean - half, mean + half, len(numbers))


def bootstrap(
    values: Sequence[float],
    statistic: Callable[[np.ndarray], float] = np.median,
    *,
    draws: int = 2000,
    level: float = 0.95,
) -> Interval:
    """A statistic with its percentile interval over resampled values (Efron, 1979); repeatable."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < 2:
        return Interval(float(statistic(numbers)) if len(numbers) else float("nan"), -np.inf, np.inf, len(numbers))
    picks = np.random.default_rng(0).integers(0, len(numbers), size=(draws, len(numbers)))
    found = np.array([statistic(numbers[each]) for each in picks])
    low, high = np.quantile(found, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(statistic(numbers)), float(low), float(high), len(numbers))


def equivalent(differences: Sequence[float], margin: float) -> bool:
    """Two one-sided t tests at 5 % each (Schuirmann, 1987): True if the mean difference lies within +- margin."""
    inside = interval(differences, level=0.90)
    return bool(-margin < inside.low and inside.high < margin)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> Interval:
    """The slope of log(value) over log(size) with its interval; one pair for each measurement, repetitions included."""
    x, y = np.log(np.asarray(sizes, dtype=np.float64)), np.log(np.asarray(values, dtype=np.float64))
    if len(set(x)) < 2 or not np.isfinite(y).all():
        return Interval(float("nan"), -np.inf, np.inf, len(x))
    fit = stats.linregress(x, y)
    half = float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr) if len(x) > 2 else float("inf")
    return Interval(float(fit.slope), float(fit.slope) - half, float(fit.slope) + half, len(x))


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rank correlation; nan where one side is constant."""
    return float(stats.spearmanr(x, y).statistic)


def kendall(x: Sequence[float], y: Sequence[float]) -> float:
    """Kendall's tau-b; nan where one side is constant."""
    return float(stats.kendalltau(x, y).statistic)


def separation(scores: Sequence[float], relevant: Sequence[bool]) -> float:
    """The area under the ROC curve: the chance that a relevant one scores above another, ties counted as half."""
    ranks, marks = stats.rankdata(scores), np.asarray(relevant, dtype=bool)
    yes, no = int(marks.sum()), int((~marks).sum())
    return float((ranks[marks].sum() - yes * (yes + 1) / 2) / (yes * no))
