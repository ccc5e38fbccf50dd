"""What a server has done and holds, as Prometheus reads it."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from clearhead.generate import AsyncEngine, Statistics

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)
COUNTERS = {  # name -> what it says
    "steps": "model steps of the engine",
    "read_tokens": "tokens of prompts and sources that were computed",
    "chosen_tokens": "tokens of answers",
    "requests": "requests that the engine has taken",
    "answers": "answers that have ended",
    "preemptions": "answers that gave their memory up for a while",
}
LOADS = {
    "running": "answers that are being computed",
    "waiting": "answers that wait in the line",
    "blocks": "blocks of keys and values that there are",
    "blocks_held": "blocks that somebody holds",
    "cache_bytes": "memory of keys and values",
}


class Metrics:
    """The numbers of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._engines: dict[str, AsyncEngine] = {}
        labels = ("path", "status")
        self.requests = Counter("clearhead_http_requests", "requests answered", labels, registry=self.registry)
        self.seconds = Histogram(
            "clearhead_http_seconds",
            "from request to end of answer",
            ("path",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.open = Gauge("clearhead_http_open", "requests that are being answered", registry=self.registry)
        self.refused = Counter("clearhead_http_refused", "requests told to come back later", registry=self.registry)
        self.first_token = Histogram(
            "clearhead_first_token_seconds",
            "from request to first token",
            ("model",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "clearhead_translation_batch", "sentences translated together", buckets=SIZES, registry=self.registry
        )
        self.registry.register(_Engines(self._engines))

    def watch(self, name: str, engine: AsyncEngine) -> None:
        """Tell about this engine too."""
        self._engines[name] = engine

    def text(self) -> bytes:
        """All numbers, in Prometheus' own format."""
        return generate_latest(self.registry)


class _Engines(Collector):
    """Reads the statistics of all engines when somebody asks."""

    def __init__(self, engines: dict[str, AsyncEngine]) -> None:
        self._engines = engines

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        told = {name: engine.statistics for name, engine in self._engines.items()}
        for key, what in COUNTERS.items():
            counter = CounterMetricFamily(f"clearhead_{key}", what, labels=("model",))
            for name, each in told.items():
                counter.add_metric((name,), vars(each)[key])
            yield counter
        for key, what in LOADS.items():
            values = {name: vars(each.load)[key] for name, each in told.items()}
            yield _gauge(f"clearhead_{key}", what, values)
        yield _gauge("clearhead_tokens_per_second", "tokens of answers in a second of steps", _rates(told))


def _gauge(name: str, what: str, values: dict[str, float]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, what, labels=("model",))
    for model, value in values.items():
        gauge.add_metric((model,), value)
    return gauge


def _rates(told: dict[str, Statistics]) -> dict[str, float]:
    return {name: each.tokens_per_second for name, each in told.items()}
