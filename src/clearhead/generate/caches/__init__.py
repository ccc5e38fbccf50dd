"""Caches of keys and values: for one batch that grows together (searches), and for many samples (the engine)."""

from clearhead.generate.caches.base import CACHES, Cache, Call, Part, Tokens
from clearhead.generate.caches.dense import Dense, Quantised, Windowed
from clearhead.generate.caches.lockstep import DenseCache
from clearhead.generate.caches.paged import Paged
from clearhead.generate.caches.segment import SegmentCache
from clearhead.generate.caches.sources import Sources

__all__ = [
    "CACHES",
    "Cache",
    "Call",
    "Dense",
    "DenseCache",
    "Paged",
    "Part",
    "Quantised",
    "SegmentCache",
    "Sources",
    "Tokens",
    "Windowed",
]
