"""The caches of searches and of segments under their old name; they live in `caches`."""

from clearhead.generate.caches.lockstep import DenseCache, DenseLayer
from clearhead.generate.caches.segment import SegmentCache, SegmentLayer

__all__ = ["DenseCache", "DenseLayer", "SegmentCache", "SegmentLayer"]
