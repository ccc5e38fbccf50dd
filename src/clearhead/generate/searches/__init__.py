"""Searches for good continuations, for encoder-decoder and decoder-only models."""

from clearhead.generate.searches.base import SEARCHES, Hypothesis, Search
from clearhead.generate.searches.beam import Beam
from clearhead.generate.searches.config import SearchConfig
from clearhead.generate.searches.contrastive import Contrastive
from clearhead.generate.searches.diverse import DiverseBeam
from clearhead.generate.searches.doorway import search, search_all, search_each
from clearhead.generate.searches.greedy import Greedy
from clearhead.generate.searches.minimum_risk import MinimumRisk
from clearhead.generate.searches.scores import PENALTIES
from clearhead.generate.searches.writer import Writer

__all__ = [
    "PENALTIES",
    "SEARCHES",
    "Beam",
    "Contrastive",
    "DiverseBeam",
    "Greedy",
    "Hypothesis",
    "MinimumRisk",
    "Search",
    "SearchConfig",
    "Writer",
    "search",
    "search_all",
    "search_each",
]
