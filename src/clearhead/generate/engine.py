"""The engine: many requests at once, token by token, for decoder-only models and encoder-decoders.

The life of a request: `submit` checks it and makes a sample for each answer. Each `step` asks the scheduler for a plan,
lets the runner compute it (one call of the model for all growing samples, some more for prompts), lets the chooser of
each sample choose its token, and tells what happened in events. A request gets the same tokens alone or in any batch,
with any exact cache, preempted or not: its logits depend on its own tokens only, up to the rounding of sums, and its
random numbers are its own.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated

import torch
from pydantic import AfterValidator, PositiveInt
from torch import Tensor

from clearhead.core.errors import ClearheadError, DataError
from clearhead.core.recipe import Section
from clearhead.core.registry import Choice
from clearhead.generate.admission import Admission
from clearhead.generate.blocks import Blocks
from clearhead.generate.caches import CACHES, Cache
from clearhead.generate.caches.base import Tokens
from clearhead.generate.request import BusyError, Completion, Event, Finish, Load, Request, Statistics
from clearhead.generate.runner import Runner
from clearhead.generate.sampling import Chooser, Spelling
from clearhead.generate.scheduler import Limits, Plan, Sample, Scheduler
from clearhead.model import Transformer

Top = tuple[tuple[int, float], ...]  # tokens and their log-probabilities


class EngineConfig(Section):
    """How an engine serves."""

    cache: Annotated[Choice, AfterValidator(CACHES.check)] = Choice(kind="dense")
    limits: Limits = Limits()
    block: PositiveInt = 16  # tokens of a block
    blocks: PositiveInt | None = None  # of all samples together; None = enough for all rows at the full context
    context: PositiveInt | None = None  # tokens of a sample; None = what the model was made for


@dataclass(eq=False, kw_only=True)
class Answer(Sample):
    """The sample of one answer, and how its tokens are chosen."""

    record: "Record"
    index: int
    chooser: Chooser
    first: bool = field(default=True, init=False)  # has no token yet


@dataclass(eq=False)
class Record:
    """A request on its way."""

    number: int
    request: Request
    most: int  # tokens of an answer
    stops: frozenset[int]
    submitted: float
    alive: list[Answer] = field(default_factory=list)  # answers that have not ended
    events: list[Event] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)


class Engine:
    """Serves requests.

    Args:
        model: a decoder-only model or an encoder-decoder, in eval mode.
        config: cache, limits, memory.
        eos: the token that ends a text; None = there is none.
        spelling: the bytes of each token, for constraints on text.
        clock: seconds, for deadlines and statistics.

    Raises:
        ModelError: the model has no decoder, is in training mode, or does not go with the cache.
    """

    def __init__(
        self,
        model: Transformer,
        config: EngineConfig | None = None,
        *,
        eos: int | None = None,
        spelling: Spelling | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model, self.config = model, config or EngineConfig()
        self.eos, self.spelling, self.clock = eos, spelling, clock
        limits, size = _limits(model, self.config.limits), self.config.block
        context = self.config.context or model.longest_target or model.config.length
        self._count = self.config.blocks or limits.rows * -(-context // size)
        self.admission = Admission(model, context, self._count * size, limits)
        pad = model.config.pad  # no answer: what fills up a batch in training is never learned
        self._never = pad if model.config.kind == "encoder-decoder" and pad != eos else None
        self._records: dict[int, Record] = {}  # those on their way
        self._pending: list[Event] = []  # to be told by the next step
        self._done, self._most_blocks = Statistics(), 0
        self.scheduler = Scheduler(limits, Blocks(self._count, size, shares=self._new_cache().shares))
        self.runner = Runner(model, self._new_cache())

    # --- asking ---

    def submit(self, request: Request) -> int:
        """Check a request and put it into the line; returns its number.

        Raises:
            DataError: it can never be served: an empty prompt, an unknown token, a text beyond the context or memory.
            ModelError: its sampling does not go with the model.
            BusyError: there are too many requests already.
        """
        self.admission.check(request)
        if self.scheduler.length + request.n > self.config.limits.waiting:
            raise BusyError(
                "too many requests are waiting",
                found=f"{self.scheduler.length:,} answers",
                expected=f"at most {self.config.limits.waiting:,}",
                remedy="ask again later, or raise limits.waiting",
            )
        self._done.requests += 1
        record = self._record(self._done.requests, request)
        self._records[record.number] = record
        leader, *others = record.alive
        leader.siblings = list(others)
        self.scheduler.submit(leader)
        return record.number

    def cancel(self, number: int, answer: int | None = None) -> bool:
        """End a request now, or one of its answers; False if that is not on its way (any more)."""
        record = self._records.get(number)
        chosen = [each for each in (record.alive if record else []) if answer in (None, each.index)]
        for each in chosen:
            self._end(each, "cancelled")
        return bool(chosen)

    def step(self) -> list[Event]:
        """Compute one step and tell what happened, cancellations since the last one included."""
        started = self.clock()
        for each in self.scheduler.late(started):
            self._end(self._mine(each), "deadline")
        if self.scheduler.busy:
            self._compute()
            self._done.steps += 1
            self._done.seconds += self.clock() - started
        events, self._pending = self._pending, []
        return events

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._pending) or self.scheduler.busy

    def stream(self, number: int) -> Iterator[Event]:
        """The events of a request from its first on, computing steps as needed; closing it early cancels the request.

        Raises:
            DataError: there is no such request on its way.
        """
        return self._stream(self.record(number))

    def generate(self, requests: Iterable[Request]) -> list[list[Completion]]:
        """Serve any number of requests; the n answers of each, in their order."""
        records: list[Record] = []
        try:
            for request in requests:
                while self.scheduler.length and self.scheduler.length + request.n > self.config.limits.waiting:
                    self.step()
                records.append(self._records[self.submit(request)])
            while any(each.alive for each in records):
                self.step()
        finally:  # a refusal or an interruption leaves nothing behind
            for record in records:
                self.cancel(record.number)
        return [each.completions for each in records]

    def record(self, number: int) -> Record:
        """A request on its way; what is told about it goes on to be added, also after its end.

        Raises:
            DataError: there is no such request on its way.
        """
        if number not in self._records:
            remedy = "ask before it ends"
            raise DataError("no such request is on its way", found=number, remedy=remedy)
        return self._records[number]

    @property
    def statistics(self) -> Statistics:
        """What was done so far, and what is held now."""
        load = Load(
            running=len(self.scheduler.running),
            waiting=self.scheduler.length,
            blocks=self.blocks.count,
            blocks_held=self.blocks.held,
            most_blocks_held=self._most_blocks,
            cache_bytes=self.runner.bytes,
        )
        return replace(self._done, preemptions=self.scheduler.preemptions, load=load)

    # --- a step ---

    def _compute(self) -> None:
        """One step; what goes wrong in the model ends the samples that run, and nothing else."""
        try:
            plan = self.scheduler.plan()
            for samples, logits in self._run(plan):
                self._choose(samples, logits)
        except BaseException as error:  # an interruption too leaves the cache half written
            self._abandon(error)
            if not isinstance(error, Exception):
                raise

    def _run(self, plan: Plan) -> list[tuple[list[Answer], Tensor]]:
        """Compute what is planned: samples, and the logits of their next tokens."""
        for each in plan.dropped:
            self.runner.drop(each)
        for copy in plan.copies:
            self.runner.copy(copy.sample, copy.index, copy.old)
        ready = [self.runner.advance()] if plan.growing else []
        ready += self.runner.read(plan.parts)
        for sample, child in plan.forks:
            self.runner.fork(sample, child)
        self.scheduler.commit(plan)
        self._done.read_tokens += plan.tokens - len(plan.growing)
        self._most_blocks = max(self._most_blocks, self.blocks.held)
        copies: dict[Tokens, list[Sample]] = {}
        for sample, child in plan.forks:
            copies.setdefault(sample, []).append(child)
        return [self._with_copies(samples, logits, copies) for samples, logits in ready]

    def _with_copies(
        self, samples: list[Tokens], logits: Tensor, copies: dict[Tokens, list[Sample]]
    ) -> tuple[list[Answer], Tensor]:
        """Samples that begin as copies choose from the same logits."""
        rows = [(row, each) for row, sample in enumerate(samples) for each in (sample, *copies.get(sample, ()))]
        if len(rows) > len(samples):
            logits = logits[[row for row, _ in rows]]
        return [self._mine(each) for _, each in rows], logits

    @torch.inference_mode()
    def _choose(self, samples: list[Answer], logits: Tensor) -> None:
        """The next token of each sample, from logits (samples, vocab); all that only take the largest at once."""
        if self._never is not None:
            logits[:, self._never] = -torch.inf
        largest, tokens = logits.max(dim=1)
        host = logits if all(_plain(each) for each in samples) else logits.cpu()  # where choosers have their numbers
        for row, (each, value, token) in enumerate(zip(samples, largest.tolist(), tokens.tolist(), strict=True)):
            if not math.isfinite(value):
                self._end(each, "failed", "the model's logits are not numbers", internal=True)
            elif _plain(each):
                self._accept(each, token, None, ())
            else:
                self._choose_one(each, host[row])

    def _choose_one(self, sample: Answer, logits: Tensor) -> None:
        """Choose with penalties, random numbers, constraints; their failure ends this sample alone."""
        wanted = sample.record.request.log_probabilities
        try:
            token, log_probability = sample.chooser.choose(logits)
            top = tuple(sample.chooser.top(logits, wanted)) if wanted else ()
        except Exception as error:
            self._end(sample, "failed", _told(error), internal=not isinstance(error, ClearheadError))
        else:
            self._accept(sample, token, None if wanted is None else log_probability, top)

    def _accept(self, sample: Answer, token: int, log_probability: float | None, top: Top) -> None:
        """A token is chosen: it goes on, or ends the answer."""
        record = sample.record
        if sample.first:
            sample.first = False
            seconds = self.clock() - record.submitted
            record.completions[sample.index].first_token_seconds = seconds
            self._done.answered += 1
            self._done.first_token_seconds += seconds
        self._done.chosen_tokens += 1
        if token in record.stops:
            self._tell(sample, Event(record.number, sample.index, None, log_probability, top, "stop"))
            return
        sample.tokens.append(token)
        full = len(sample.tokens) - len(record.request.prompt) >= record.most
        self._tell(sample, Event(record.number, sample.index, token, log_probability, top, "length" if full else None))

    # --- ends ---

    def _end(self, sample: Answer, finish: Finish, error: str | None = None, *, internal: bool = False) -> None:
        """An answer ends without another token."""
        number = sample.record.number
        self._tell(sample, Event(number, sample.index, finish=finish, error=error, internal=internal))

    def _tell(self, sample: Answer, event: Event) -> None:
        """Something happened to an answer; after its last event it is forgotten."""
        record = sample.record
        record.events.append(event)
        self._pending.append(event)
        completion = record.completions[sample.index]
        completion.add(event)
        if event.finish is None:
            return
        completion.seconds = self.clock() - record.submitted
        self._done.answers += 1
        self.scheduler.remove(sample)
        self.runner.drop(sample)
        record.alive.remove(sample)
        if not record.alive:
            del self._records[record.number]

    def _abandon(self, error: BaseException) -> None:
        """A step broke: its samples end, and the cache, which may be half written, is made anew."""
        for each in list(self.scheduler.running):
            self._end(self._mine(each), "failed", _told(error), internal=True)
        self.scheduler.blocks = Blocks(self._count, self.config.block, shares=self.blocks.shares)
        self.runner = Runner(self.model, self._new_cache())

    # --- helpers ---

    @property
    def blocks(self) -> Blocks:
        """The blocks of all samples."""
        return self.scheduler.blocks

    def _new_cache(self) -> Cache:
        return CACHES.build(self.config.cache, self.model.config, self._count, self.config.block)

    def _record(self, number: int, request: Request) -> Record:
        """A request with a sample for each answer."""
        stops = frozenset(request.stop) | ({self.eos} if self.eos is not None else set())
        now = self.clock()
        record = Record(number, request, self.admission.most(request), stops, now)
        for index in range(request.n):
            record.alive.append(self._answer(record, index))
            record.completions.append(Completion())
        return record

    def _answer(self, record: Record, index: int) -> Answer:
        request = record.request
        seed = request.sampling.seed
        sampling = request.sampling if seed is None else request.sampling.model_copy(update={"seed": seed + index})
        return Answer(
            tokens=list(request.prompt),
            source=request.source,
            priority=request.priority,
            deadline=math.inf if request.deadline is None else record.submitted + request.deadline,
            record=record,
            index=index,
            chooser=Chooser(sampling, request.prompt, vocab=self.admission.vocab, eos=self.eos, spelling=self.spelling),
        )

    @staticmethod
    def _mine(sample: Tokens) -> Answer:
        assert isinstance(sample, Answer)
        return sample

    def _stream(self, record: Record) -> Iterator[Event]:
        told = 0
        try:
            while record.alive or told < len(record.events):
                if told == len(record.events):
                    self.step()
                else:
                    told += 1
                    yield record.events[told - 1]
        finally:
            self.cancel(record.number)


def _plain(sample: Answer) -> bool:
    """Whether nothing but the largest logit counts."""
    return sample.chooser.plain and sample.record.request.log_probabilities is None


def _limits(model: Transformer, limits: Limits) -> Limits:
    """A step has room for the longest source, which is read at once, unless the user said how large it is."""
    longest = model.config.length + limits.rows if model.config.kind == "encoder-decoder" else 0
    if "step_tokens" in limits.model_fields_set or longest <= limits.step_tokens:
        return limits
    return limits.model_copy(update={"step_tokens": longest})


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, ClearheadError) else f"{type(error).__name__}: {error}"
