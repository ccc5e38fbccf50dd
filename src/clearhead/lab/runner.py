"""Runs questions: their cells over worker processes with one thread each, from the cache where they were run before.

Two processes of one thread beat one process of two threads at the sizes of the lab. Questions that measure time come
last, in this process, with nothing beside them.
"""

import contextlib
import json
import math
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import torch

from clearhead.core.errors import ClearheadError, ModelError
from clearhead.core.progress import track
from clearhead.core.seeds import derive, seed_everything
from clearhead.lab.catalog import module_of, question
from clearhead.lab.digest import digest
from clearhead.lab.documents import DOCUMENTS
from clearhead.lab.question import Judgement, Question, Verdict
from clearhead.lab.rows import Cell, Row, Rows
from clearhead.lab.scale import Scale
from clearhead.lab.store import Measured, Store


@dataclass(frozen=True)
class Result:
    """A question that was run."""

    id: str
    scale: Scale
    rows: Rows
    judgements: Mapping[str, Judgement]  # by the key of the claim
    seconds: float  # of one core, cached cells with what they took when they ran
    made: str  # when the last cell ran, UTC
    others: "tuple[Result, ...]" = ()  # the same question with other seed lists

    @property
    def question(self) -> Question:
        """The question itself."""
        return question(self.id)

    def by_list(self, claim: str) -> dict[int, Verdict]:
        """The verdict on a claim by seed list, that of this result first."""
        return {each.scale.seed_list: each.judgements[claim].verdict for each in (self, *self.others)}

    def document(self, figure: str | None = None) -> dict[str, Any]:
        """The result as plain values, for JSON; `figure` is the path of its picture."""
        asked = self.question
        return {
            "id": self.id,
            "title": {"en": asked.title.en, "zh": asked.title.zh},
            "verdicts": [
                {
                    "claim": each.key,
                    "verdict": found.verdict.value,
                    "evidence": found.evidence.en,
                    "by_seed_list": {str(number): said.value for number, said in self.by_list(each.key).items()},
                }
                for each in asked.claims
                for found in [self.judgements[each.key]]
            ],
            "rows": [{key: _in_json(value) for key, value in each.items()} for each in self.rows],
            "figure": figure,
            "seconds": self.seconds,
            "seeds": self.rows.distinct("seed"),
            "sources": [{"document": DOCUMENTS[each.document].file, "item": each.item} for each in asked.sources],
            "scale": self.scale.name,
            "seed_list": self.scale.seed_list,
        }


@dataclass(frozen=True)
class _Piece:
    """One cell of one question, waiting to be measured."""

    id: str
    cell: Cell
    code: str

    @property
    def key(self) -> str:
        """Equal for equal pieces: a cell without a seed is the same in every seed list, and is measured once."""
        return json.dumps([self.id, dict(self.cell)], sort_keys=True)


def run(ids: Sequence[str], scale: Scale, *, jobs: int = 2, store: Store | None = None, lists: int = 1) -> list[Result]:
    """Run questions and judge them.

    Args:
        ids: of the questions.
        scale: how much of each.
        jobs: worker processes; 1 = in this process.
        store: where measured cells are kept and looked for; None = measure all anew.
        lists: how many seed lists, from that of `scale` on; results are those of the first, with the rest as `others`.

    Raises:
        ModelError: a question cannot be measured; names it and the cell. The cells before it are kept.
    """
    scales = [replace(scale, seed_list=scale.seed_list + each) for each in range(lists)]
    pieces = {each: [list(_pieces(each, one)) for one in scales] for each in ids}
    known = _known([piece for listed in pieces.values() for own in listed for piece in own], jobs, store)
    return [_compared(each, scales, listed, known) for each, listed in pieces.items()]


def _compared(
    id: str, scales: Sequence[Scale], listed: Sequence[Sequence[_Piece]], known: Mapping[str, Measured]
) -> Result:
    """The result of the first seed list, the rest beside it."""
    first, *others = (
        _result(id, scale, [known[each.key] for each in own]) for scale, own in zip(scales, listed, strict=True)
    )
    return replace(first, others=tuple(others))


def _known(pieces: Sequence[_Piece], jobs: int, store: Store | None) -> dict[str, Measured]:
    """What was measured in each piece, by its key: from the store, and anew where it has nothing."""
    known: dict[str, Measured] = {}
    waiting: dict[str, _Piece] = {}
    for piece in pieces:
        found = store.get(piece.id, piece.cell, piece.code) if store else None
        if found is None:
            waiting[piece.key] = piece
        else:
            known[piece.key] = found
    with track("cells", len(waiting)) as bar:
        for done, (piece, measured) in enumerate(_measured(list(waiting.values()), jobs), start=1):
            known[piece.key] = measured
            if store:
                store.put(piece.id, piece.code, measured)
            bar(done, piece.id)
    return known


def _timed(piece: _Piece) -> bool:
    return piece.cell.get("part") in question(piece.id).timed


def _measured(waiting: Sequence[_Piece], jobs: int) -> Iterator[tuple[_Piece, Measured]]:
    """Measure what waits, in any order; what measures time comes last and alone."""
    timed = [each for each in waiting if _timed(each)]
    others = [each for each in waiting if not _timed(each)]
    if jobs > 1 and len(others) > 1:
        yield from _in_workers(others, jobs)
    else:
        yield from ((each, measure(each.id, each.cell)) for each in others)
    yield from ((each, measure(each.id, each.cell)) for each in timed)


def _in_workers(waiting: Sequence[_Piece], jobs: int) -> Iterator[tuple[_Piece, Measured]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(waiting)), mp_context=context) as pool:
        futures: dict[Future[Measured], _Piece] = {
            pool.submit(measure, each.id, dict(each.cell)): each for each in waiting
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def measure(id: str, cell: Cell) -> Measured:
    """Measure one cell on one thread; what a question leaves unseeded is seeded by the cell."""
    start = time.perf_counter()
    seed_everything(derive(0, id, sorted(cell.items())))
    with _one_thread(), _named(id, cell):
        rows = [_plain({**cell, **each}) for each in question(id).measure(cell)]
    made = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Measured(dict(cell), rows, time.perf_counter() - start, made)


def _pieces(id: str, scale: Scale) -> Iterator[_Piece]:
    code = digest(module_of(id))
    return (_Piece(id, dict(cell), code) for cell in question(id).cells(scale))


def _result(id: str, scale: Scale, measured: Sequence[Measured]) -> Result:
    asked = question(id)
    rows = Rows(row for each in measured for row in each.rows)
    judgements = asked.judge(rows)
    missing = {each.key for each in asked.claims} ^ set(judgements)
    if missing:
        raise ModelError(f"question {id} does not judge its claims one by one", found=", ".join(sorted(missing)))
    seconds = math.fsum(each.seconds for each in measured)
    return Result(id, scale, rows, judgements, seconds, max((each.made for each in measured), default=""))


def _plain(row: Row) -> Row:
    """Numbers of numpy and torch as plain ones, so that a row from the cache is the same as a fresh one."""
    return {key: value.item() if isinstance(value, torch.Tensor) else _number(value) for key, value in row.items()}


def _number(value: Any) -> Any:
    if isinstance(value, bool | int | float | str) or value is None:
        return float(value) if isinstance(value, float) else value
    return value.item()


def _in_json(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become their names."""
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _named(id: str, cell: Cell) -> Iterator[None]:
    """Name the question and the cell in whatever goes wrong inside."""
    try:
        yield
    except ClearheadError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise ModelError(f"question {id} cannot be measured", where=dict(cell), found=found) from error
