"""Token prompts to tokens: caches, samplers, searches, and the engine that serves many requests. Knows ids only."""

from clearhead.generate.async_engine import AsyncEngine
from clearhead.generate.caches import DenseCache, SegmentCache
from clearhead.generate.engine import Engine, EngineConfig
from clearhead.generate.request import BusyError, Completion, Event, Request, Statistics
from clearhead.generate.sampling import SamplingConfig
from clearhead.generate.scheduler import Limits
from clearhead.generate.searches import Hypothesis, SearchConfig, search, search_all, search_each
from clearhead.generate.speculative import Speculated, SpeculationConfig, SpeculativeText, speculate

__all__ = [
    "AsyncEngine",
    "BusyError",
    "Completion",
    "DenseCache",
    "Engine",
    "EngineConfig",
    "Event",
    "Hypothesis",
    "Limits",
    "Request",
    "SamplingConfig",
    "SearchConfig",
    "SegmentCache",
    "Speculated",
    "SpeculationConfig",
    "SpeculativeText",
    "Statistics",
    "search",
    "search_all",
    "search_each",
    "speculate",
]
