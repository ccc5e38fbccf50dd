"""A head in a few numbers: how widely it looks, how far, and where."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Head:
    """Means over the queries of one head. What makes no sense for it is None.

    In a decoder the first query is left out where there are others: it can see nothing but itself.
    """

    entropy: float  # nats; exp of it is the number of tokens among which a head that looks so evenly would choose
    peak: float  # the largest weight
    first: float  # weight of the first key
    last: float | None  # weight of the last key; None in a decoder, where most queries do not see it
    itself: float | None  # weight of the query's own place; None in cross-attention
    previous: float | None  # weight of the place before; likewise
    distance: float | None  # how many places away it looks; likewise


def summaries(weights: Weights, *, causal: bool, crosses: bool) -> list[Head]:
    """(heads, queries, keys) -> one summary for each head."""
    start = 1 if causal and weights.shape[1] > 1 else 0
    return [_summary(each[start:], start, causal=causal, crosses=crosses) for each in weights]


def _summary(weights: Weights, start: int, *, causal: bool, crosses: bool) -> Head:
    """Of (queries, keys), the first of which is query number `start`."""
    shares = _shares(weights)  # (queries, keys)
    place = np.arange(len(shares)) + start
    keys = np.arange(shares.shape[1])
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    apart = np.abs(place[:, None] - keys)
    return Head(
        entropy=_rounded(-(shares * logs).sum(axis=1)),
        peak=_rounded(shares.max(axis=1)),
        first=_rounded(shares[:, 0]),
        last=None if causal else _rounded(shares[:, -1]),
        itself=None if crosses else _rounded((shares * (apart == 0)).sum(axis=1)),
        previous=None if crosses else _rounded((shares * (keys == place[:, None] - 1)).sum(axis=1)),
        distance=None if crosses else _rounded((shares * apart).sum(axis=1)),
    )


def _shares(weights: Weights) -> Weights:
    """Weights as shares of one; kernels without a softmax may have others. A row of nothing stays zero."""
    size = np.abs(weights)
    total = size.sum(axis=1, keepdims=True)
    shares: Weights = np.divide(size, total, out=np.zeros_like(size), where=total > 0)
    return shares


def _rounded(values: Weights) -> float:
    return round(float(values.mean()), 4)
