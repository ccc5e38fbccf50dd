"""Who computes what in the next step. No tensors and no clock, so that thousands of requests are simulated in seconds.

A sample is one answer of a request. It waits until there is a row and blocks for its tokens, is read in parts, and then
grows by one token a step. When blocks run out, the least urgent sample gives up its own and waits again; its tokens are
computed anew later. Sources: iteration-level scheduling, Yu et al., 2022 ("Orca"); chunked reading, Agrawal et al.,
2023, arXiv:2308.16369.

Fairness: the place of a sample is fixed when it comes, `arrival - priority * patience`. Nobody is overtaken by what
comes more than that much later, and the first in the line is never passed over: none starves.
"""

import math
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from pydantic import PositiveInt, model_validator

from clearhead.core.errors import ConfigError
from clearhead.core.recipe import Section
from clearhead.generate.blocks import Blocks
from clearhead.generate.caches.base import Part, Tokens

SPARE = 16  # deadlines of samples that have ended that may be kept


class Limits(Section):
    """What a step and the engine may take at most."""

    rows: PositiveInt = 32  # samples that are computed at the same time
    step_tokens: PositiveInt = 1024  # tokens of one step: one for each growing sample, the rest reads prompts
    waiting: PositiveInt = 4096  # samples that wait
    patience: PositiveInt = 256  # arrivals that one level of priority overtakes

    @model_validator(mode="after")
    def _leaves_room_to_read(self) -> "Limits":
        if self.step_tokens <= self.rows:
            found, remedy = f"step_tokens {self.step_tokens}, rows {self.rows}", "raise step_tokens"
            raise ConfigError("a step that only grows its rows never reads a prompt", found=found, remedy=remedy)
        return self


@dataclass(eq=False)
class Sample(Tokens):
    """A sample and its place in the line."""

    priority: int = 0  # the more, the sooner
    deadline: float = math.inf  # on the clock of whoever asks for `late`
    place: float = field(default=0.0, init=False)  # in the line; set when it comes
    growing: bool = field(default=False, init=False)  # its prompt is read
    ended: bool = field(default=False, init=False)  # done, or not wanted any more
    siblings: list["Sample"] = field(default_factory=list, init=False)  # begin as copies of it, once its prompt is read


@dataclass(frozen=True)
class Copy:
    """Block `index` of a sample is new: it must hold what the block `old` holds."""

    sample: Sample
    index: int
    old: int


@dataclass
class Plan:
    """What the next step does, in this order."""

    dropped: list[Sample] = field(default_factory=list)  # gave up their blocks; the cache must forget them
    copies: list[Copy] = field(default_factory=list)
    growing: list[Sample] = field(default_factory=list)  # take in one token each
    parts: list[Part[Sample]] = field(default_factory=list)  # of prompts
    forks: list[tuple[Sample, Sample]] = field(default_factory=list)  # after reading: a sample and its copy

    @property
    def tokens(self) -> int:
        """Tokens that are computed, those of sources included."""
        return len(self.growing) + sum(_cost(each.sample, each.start) + each.stop - each.start for each in self.parts)


class Scheduler:
    """Plans steps.

    Args:
        limits: see there.
        blocks: what the samples' keys and values are put into; it must have room for any one sample.
    """

    def __init__(self, limits: Limits, blocks: Blocks) -> None:
        self.limits, self.blocks = limits, blocks
        self.waiting: list[Sample] = []  # in the order of their places
        self.running: list[Sample] = []  # likewise; they hold blocks
        self.preemptions = 0
        self._arrivals = 0
        self._alive = 0  # samples that wait or run
        self._deadlines: list[tuple[float, int, Sample]] = []  # a heap

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self.waiting or self.running)

    @property
    def length(self) -> int:
        """Samples that wait, siblings included."""
        return self._alive - len(self.running)

    def submit(self, sample: Sample) -> None:
        """A sample, perhaps with siblings, enters the line."""
        self._arrivals += 1
        for each in (sample, *sample.siblings):
            each.place = self._arrivals - each.priority * self.limits.patience
            self._alive += 1
            if each.deadline < math.inf:
                heappush(self._deadlines, (each.deadline, id(each), each))
        self._wait(sample)

    def remove(self, sample: Sample) -> None:
        """A sample is done, or not wanted any more. Its siblings go on without it."""
        self._alive -= 1
        sample.ended = True
        self._forget()
        if sample in self.running:
            self.running.remove(sample)
            self._give_up(sample)
        elif sample in self.waiting:
            self.waiting.remove(sample)
        else:
            for leader in (*self.waiting, *self.running):
                leader.siblings = [each for each in leader.siblings if each is not sample]
        if sample.siblings:
            first, *others = sample.siblings
            sample.siblings, first.siblings = [], others
            self._wait(first)

    def _forget(self) -> None:
        """Let go of samples that have ended before their deadlines, once most of the deadlines are theirs."""
        if len(self._deadlines) > 2 * self._alive + SPARE:
            self._deadlines = [each for each in self._deadlines if not each[-1].ended]
            heapify(self._deadlines)

    def late(self, now: float) -> list[Sample]:
        """The samples whose deadline is past, each told once; whoever asks removes them."""
        found = []
        while self._deadlines and self._deadlines[0][0] <= now:
            found.append(heappop(self._deadlines)[-1])
        return [each for each in found if not each.ended]

    def plan(self) -> Plan:
        """Decide about the next step. What it takes in counts as computed only after `commit`."""
        plan = Plan()
        self._grow(plan)
        plan.parts += self._reading(self.limits.step_tokens - len(plan.growing))
        for part in plan.parts:
            if part.last:
                self._fork(part.sample, plan)
        return plan

    def commit(self, plan: Plan) -> None:
        """The step is done: what it took in is computed."""
        for sample in plan.growing:
            sample.computed += 1
        for part in plan.parts:
            part.sample.computed, part.sample.growing = part.stop, part.last
            if part.last:
                self.blocks.remember(part.sample.tokens, part.sample.blocks, part.sample.source)
        for sample, child in plan.forks:
            child.computed, child.growing = sample.computed, True

    # --- growing ---

    def _grow(self, plan: Plan) -> None:
        """A slot for the newest token of every growing sample, the most urgent first."""
        at = 0
        while at < len(self.running):
            sample = self.running[at]
            at += 1
            if sample.growing and self._made_slot(sample, plan):
                plan.growing.append(sample)

    def _made_slot(self, sample: Sample, plan: Plan) -> bool:
        """Take blocks from the least urgent until there is a slot; False if that is the sample itself."""
        while not self._has_slot(sample, plan):
            victim = self.running[-1]
            self._preempt(victim)
            plan.dropped.append(victim)
            if victim is sample:
                return False
        return True

    def _has_slot(self, sample: Sample, plan: Plan) -> bool:
        """Make sure that the next token has a slot of its own; False where that takes a block and none is free."""
        index = sample.computed // self.blocks.size
        if index == len(sample.blocks):
            if not self.blocks.free:
                return False
            sample.blocks += self.blocks.take(1)
        elif self.blocks.holders(sample.blocks[index]) > 1:
            if not self.blocks.free:
                return False
            old = sample.blocks[index]
            sample.blocks[index] = self.blocks.replace(old)
            plan.copies.append(Copy(sample, index, old))
        return True

    def _preempt(self, sample: Sample) -> None:
        self.preemptions += 1
        self.running.remove(sample)
        self._give_up(sample)
        self._wait(sample)

    # --- reading ---

    def _reading(self, left: int) -> Iterator[Part[Sample]]:
        """Parts of prompts: first of those that were begun, then of those that wait, as long as there is room."""
        for sample in [each for each in self.running if not each.growing]:
            if left > 0:
                part = Part(sample, sample.computed, min(len(sample.tokens), sample.computed + left))
                left -= part.stop - part.start
                yield part
        while self.waiting and self._admissible(self.waiting[0], left):
            sample = self.waiting.pop(0)
            insort(self.running, sample, key=_place)
            left -= _cost(sample, 0)
            part = Part(sample, sample.computed, min(len(sample.tokens), sample.computed + left))
            left -= part.stop - part.start
            yield part

    def _admissible(self, sample: Sample, left: int) -> bool:
        """Give a waiting sample its blocks if it can start: a row, tokens of the step, blocks, and some to grow."""
        if len(self.running) >= self.limits.rows or _cost(sample, 0) >= left:
            return False
        known = self.blocks.hold(self.blocks.find(sample.tokens, sample.source))
        needed = self.blocks.needed(len(sample.tokens)) - len(known)
        if self.blocks.free < needed + len(self.running):
            self.blocks.release(known)
            return False
        sample.blocks = known + self.blocks.take(needed)
        sample.computed = len(known) * self.blocks.size
        return True

    def _fork(self, sample: Sample, plan: Plan) -> None:
        """Siblings start as copies of a sample that is read now; those without a row wait for their own turn."""
        siblings, sample.siblings = sample.siblings, []
        for each in siblings:
            if len(self.running) < self.limits.rows and self.blocks.free > len(self.running):
                each.blocks = self.blocks.hold(sample.blocks)
                insort(self.running, each, key=_place)
                plan.forks.append((sample, each))
            else:
                self._wait(each)

    # --- the line ---

    def _wait(self, sample: Sample) -> None:
        insort(self.waiting, sample, key=_place)

    def _give_up(self, sample: Sample) -> None:
        """A sample's blocks are free; what they hold stays known as long as nobody needs them."""
        self.blocks.remember(sample.tokens[: sample.computed], sample.blocks, sample.source)
        self.blocks.release(sample.blocks)
        sample.blocks, sample.computed, sample.growing = [], 0, False


def _place(sample: Sample) -> float:
    return sample.place


def _cost(sample: Tokens, start: int) -> int:
    """Tokens of a source, which is read at once with the first part of its sample."""
    return 0 if start or sample.source is None else len(sample.source)
