"""Token prompts to tokens: caches and searches. Knows ids only."""

from clearhead.generate.cache import DenseCache, SegmentCache
from clearhead.generate.config import SearchConfig
from clearhead.generate.search import Hypothesis, search, search_all

__all__ = ["DenseCache", "Hypothesis", "SearchConfig", "SegmentCache", "search", "search_all"]
