"""The models that are served, by name."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from clearhead.apply import Model, load
from clearhead.apply.pieces import Pieces
from clearhead.core.errors import UsageError
from clearhead.core.openmp import release_helpers
from clearhead.core.registry import nearest
from clearhead.generate import AsyncEngine, EngineConfig
from clearhead.serve.errors import UnknownModelError
from clearhead.serve.metrics import Metrics
from clearhead.serve.translations import Translations

Value = TypeVar("Value")
WORKERS = 2  # threads for what takes long and is no work of an engine


@dataclass(frozen=True, eq=False, kw_only=True)
class Served:
    """One model and what runs it."""

    name: str
    model: Model
    source: Pieces  # how the tokens look that the model reads
    target: Pieces  # and those that it writes
    created: int  # seconds since 1970
    engine: AsyncEngine | None = None  # None for an encoder-only model, which continues nothing
    translations: Translations | None = None  # of an encoder-decoder

    @property
    def kind(self) -> str:
        """decoder-only, encoder-decoder or encoder-only."""
        return self.model.bundle.model.config.kind


@dataclass(eq=False)
class Hall:
    """All models of a server, what they share, and what is counted.

    Heavy work of any kind runs in an engine's thread or by `compute`, never on the event loop.
    """

    models: Mapping[str, Served]
    metrics: Metrics = field(default_factory=Metrics)
    workers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(WORKERS))
    closing: bool = False

    @classmethod
    def open(
        cls,
        folders: Sequence[str],
        *,
        engine: EngineConfig | None = None,
        device: str = "cpu",
        weights: str = "float32",
        backlog: int | None = None,
    ) -> "Hall":
        """Load models; each argument is FOLDER or NAME=FOLDER.

        Raises:
            UsageError: no model, or two of one name.
            BundleError: a folder holds no model.
        """
        if not folders:
            raise UsageError("there is no model to serve", remedy="name the folder of a run or of a bundle")
        places: dict[str, Path] = {}
        for each in folders:
            name, folder = _named(each)
            if name in places:
                raise UsageError("two models of one name", found=name, remedy="name one of them: NAME=FOLDER")
            places[name] = folder
        settings: dict[str, Any] = {"device": device, "engine": engine, "weights": weights}
        loaded = {name: load(folder, **settings) for name, folder in places.items()}
        return cls.of(loaded, backlog=backlog)

    @classmethod
    def of(cls, models: Mapping[str, Model], *, backlog: int | None = None) -> "Hall":
        """A hall of models that are loaded; from now on nobody else may use their engines."""
        hall = cls({})
        hall.models = {name: hall._served(name, model, backlog) for name, model in models.items()}
        for each in hall.models.values():
            if each.engine is not None:
                hall.metrics.watch(each.name, each.engine)
        return hall

    def find(self, name: str | None) -> Served:
        """The model of a name; None = the first one.

        Raises:
            UnknownModelError: there is none.
        """
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            names = sorted(self.models)
            raise UnknownModelError(
                "no such model", found=name, expected=f"one of {', '.join(names)}", remedy=nearest(name, names)
            )
        return self.models[name]

    async def compute(self, work: Callable[[], Value]) -> Value:
        """Do something that takes long on a worker thread; who is cancelled still waits for its end."""

        def alone() -> Value:
            try:
                return work()
            finally:
                release_helpers()  # or an engine's would no longer wait for it at every turn

        return await to_thread.run_sync(alone, limiter=self.workers)

    async def aclose(self) -> None:
        """Cancel what is on its way and end the engines."""
        self.closing = True
        for each in self.models.values():
            if each.translations is not None:
                await each.translations.aclose()
            if each.engine is not None:
                await each.engine.aclose()

    def _served(self, name: str, model: Model, backlog: int | None) -> Served:
        kind = model.bundle.model.config.kind
        translations = Translations(model, self.compute, self.metrics.batches.observe)
        return Served(
            name=name,
            model=model,
            source=Pieces(model.bundle.source),
            target=Pieces(model.bundle.target),
            created=int(time.time()),
            engine=None if kind == "encoder-only" else AsyncEngine(model.completer.engine, backlog=backlog),
            translations=translations if kind == "encoder-decoder" else None,
        )


def _named(text: str) -> tuple[str, Path]:
    """Name and folder of an argument."""
    name, equals, folder = text.partition("=")
    if equals and name and folder and not Path(text).exists():
        return name, Path(folder)
    return Path(text).resolve().name, Path(text)
