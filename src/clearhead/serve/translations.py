"""Translations of many clients together: what waits while a batch is computed is the next batch.

A beam search is fastest with many sentences side by side. One task takes what waits, the oldest first and only what is
searched for in the same way, and has it translated on a worker thread.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from clearhead.apply import Model
from clearhead.core.errors import DataError, ModelError
from clearhead.generate import BusyError, SearchConfig

Value = TypeVar("Value")
Found = list[str]  # translations of one sentence, best first
BATCH = 64  # sentences of one batch
WAITING = 4096  # sentences that wait


@dataclass(eq=False)
class _Wanted:
    """One sentence that somebody waits for."""

    text: str
    search: SearchConfig
    found: "asyncio.Future[Found]"


class Translations:
    """Translates sentences in batches.

    Args:
        model: an encoder-decoder.
        compute: runs something on a worker thread.
        told: is given the size of each batch.
    """

    def __init__(
        self,
        model: Model,
        compute: Callable[[Callable[[], list[Found]]], Awaitable[list[Found]]],
        told: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._model, self._compute, self._told = model, compute, told
        self._waiting: list[_Wanted] = []
        self._worker: asyncio.Task[None] | None = None  # alive as long as something waits
        self._closed = False

    async def translate(self, texts: Sequence[str], n_best: int = 1) -> list[Found]:
        """The n best translations of each sentence; who is cancelled takes his sentences out of the line.

        Raises:
            BusyError: too many sentences wait.
            DataError: a sentence is longer than the model was made for.
        """
        if self._closed:
            raise ModelError("the server is closing")
        if len(self._waiting) + len(texts) > WAITING:
            found, expected = f"{len(self._waiting):,} sentences", f"at most {WAITING:,}"
            raise BusyError("too many sentences are waiting", found=found, expected=expected, remedy="ask again later")
        search, loop = self._search(n_best), asyncio.get_running_loop()
        mine = [_Wanted(each, search, loop.create_future()) for each in texts]
        self._waiting += mine
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            return list(await asyncio.gather(*(each.found for each in mine)))
        finally:
            for each in mine:
                each.found.cancel()

    async def aclose(self) -> None:
        """Translate nothing more."""
        self._closed = True
        for each in self._waiting:
            each.found.cancel()
        if self._worker is not None and not self._worker.done():
            await asyncio.gather(self._worker, return_exceptions=True)

    def _search(self, n_best: int) -> SearchConfig:
        search = self._model.search
        changes = {"n_best": n_best, "beams": max(search.beams, n_best)}
        return SearchConfig.model_validate(search.model_dump() | changes)

    async def _work(self) -> None:
        """Batch after batch, until nobody waits."""
        while batch := self._batch():
            self._told(len(batch))
            try:
                await self._answer(batch)
            except Exception as error:
                await self._alone(batch, error)

    def _batch(self) -> list[_Wanted]:
        """What is translated together next; those that nobody waits for any more are forgotten."""
        alive = [each for each in self._waiting if not each.found.done()]
        batch = [each for each in alive if each.search == alive[0].search][:BATCH]
        chosen = set(map(id, batch))
        self._waiting = [each for each in alive if id(each) not in chosen]
        return batch

    async def _answer(self, batch: list[_Wanted]) -> None:
        texts, search = [each.text for each in batch], batch[0].search

        def work() -> list[Found]:
            return [[text for text, _ in found] for found in self._model.n_best(texts, search)]

        for each, found in zip(batch, await self._compute(work), strict=True):
            if not each.found.done():
                each.found.set_result(found)

    async def _alone(self, batch: list[_Wanted], error: Exception) -> None:
        """One sentence has spoiled the batch: each gets its own answer."""
        if len(batch) == 1:
            if not batch[0].found.done():
                batch[0].found.set_exception(_placeless(error))
            return
        for each in batch:
            try:
                await self._answer([each])
            except Exception as own:
                await self._alone([each], own)


def _placeless(error: Exception) -> Exception:
    """The error without the place in our batch, which says nothing to the client."""
    if not isinstance(error, DataError):
        return error
    return DataError(error.what, found=error.found, expected=error.expected, remedy=error.remedy)
