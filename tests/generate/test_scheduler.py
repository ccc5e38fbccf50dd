"""Thousands of random requests: none starves, none is lost, no limit is exceeded, no block stays held."""

import gc
import random
import weakref

import pytest
from pydantic import ValidationError

from clearhead.generate.blocks import Blocks
from clearhead.generate.scheduler import Limits, Sample, Scheduler


class World:
    """A scheduler with samples that arrive, grow to a length of their own, are cancelled, or come too late."""

    def __init__(self, seed, *, rows=8, step_tokens=40, blocks=30, size=4, shares=True, patience=20):
        self.random = random.Random(seed)
        self.limits = Limits(rows=rows, step_tokens=step_tokens, patience=patience)
        self.blocks = Blocks(blocks, size, shares=shares)
        self.scheduler = Scheduler(self.limits, self.blocks)
        self.alive, self.done, self.gone = {}, {}, []  # sample -> final length; sample -> step; cancelled or late
        self.born, self.first = {}, {}
        self.step_number = self.computed = 0
        self.cache = {}  # sample -> tokens that a cache would hold

    def arrive(self, siblings=True):
        source = tuple(range(self.random.randint(1, 15))) if self.random.random() < 0.3 else None
        prompt = [self.random.randint(0, 1) for _ in range(self.random.randint(1, 60))]
        deadline = self.step_number + 20 if self.random.random() < 0.05 else float("inf")
        priority = self.random.choice([0, 0, 0, 1, 3])
        family = [
            Sample(list(prompt), source=source, priority=priority, deadline=deadline)
            for _ in range(self.random.choice([1, 1, 1, 2, 5]) if siblings else 1)
        ]
        family[0].siblings = family[1:]
        for each in family:
            self.alive[each] = len(prompt) + self.random.randint(1, 50)
            self.born[each] = self.step_number
        self.scheduler.submit(family[0])

    def remove(self, sample):
        self.scheduler.remove(sample)
        self.cache.pop(sample, None)
        del self.alive[sample]

    def step(self):
        self.step_number += 1
        for each in self.scheduler.late(self.step_number):
            self.remove(each)
            self.gone.append(each)
        plan = self.scheduler.plan()
        self.check(plan)
        for each in plan.dropped:
            self.cache.pop(each, None)
        for each in plan.growing:
            assert self.cache[each] == each.computed == len(each.tokens) - 1
            self.cache[each] += 1
        for part in plan.parts:
            assert part.start < part.stop <= len(part.sample.tokens)
            assert part.start == self.cache.get(part.sample, part.start)
            self.cache[part.sample] = part.stop
        for sample, child in plan.forks:
            self.cache[child] = self.cache[sample]
        self.scheduler.commit(plan)
        self.computed += plan.tokens
        ready = [*plan.growing, *(p.sample for p in plan.parts if p.last), *(child for _, child in plan.forks)]
        for each in ready:
            each.tokens.append(self.random.randint(0, 1))
            self.first.setdefault(each, self.step_number)
            if len(each.tokens) >= self.alive[each]:
                self.done[each] = self.step_number
                self.remove(each)
        return plan

    def check(self, plan):
        running = self.scheduler.running
        assert plan.tokens <= self.limits.step_tokens
        assert len(running) <= self.limits.rows
        assert len(set(map(id, running))) == len(running)
        assert not set(map(id, running)) & set(map(id, self.scheduler.waiting))
        assert [each.place for each in running] == sorted(each.place for each in running)
        for each in plan.growing:
            assert len(each.blocks) * self.blocks.size > each.computed
            assert self.blocks.holders(each.blocks[each.computed // self.blocks.size]) == 1
        assert self.blocks.held <= self.blocks.count
        assert plan.growing or plan.parts or not self.scheduler.busy  # every step gets on
        if self.step_number % 25:
            return
        alive = {*running, *self.scheduler.waiting}
        alive |= {child for each in alive for child in each.siblings}
        assert alive == set(self.alive)
        assert self.scheduler.length == len(alive) - len(running)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_thousands_of_random_requests_all_end(seed, shares):
    world = World(seed, shares=shares)
    for _ in range(600):
        world.arrive()
        for _ in range(world.random.randint(0, 8)):
            world.step()
        if world.alive and world.random.random() < 0.1:
            victim = world.random.choice(list(world.alive))
            world.remove(victim)
            world.gone.append(victim)
    while world.scheduler.busy:
        world.step()
    assert len(world.done) + len(world.gone) == len(world.born)
    assert not world.alive
    assert world.blocks.free == world.blocks.count
    assert world.scheduler.preemptions > 20  # memory was short


def test_priorities_overtake_and_yet_nobody_starves():
    world = World(7, rows=2, step_tokens=30, blocks=40)
    lowly = Sample([1] * 9, priority=0)
    world.alive[lowly], world.born[lowly] = 12, 0
    for _ in range(3):
        world.arrive(siblings=False)
    world.scheduler.submit(lowly)
    arrivals = 0
    while lowly not in world.done:
        for urgent in (Sample([0] * 5, priority=3), Sample([0] * 5, priority=3)):  # more than two rows can take
            world.alive[urgent], world.born[urgent] = 15, world.step_number
            world.scheduler.submit(urgent)
            arrivals += 1
        for _ in range(4):
            world.step()
    assert arrivals > 60  # overtaken by three levels of patience
    behind = [each for each, step in world.done.items() if each.priority == 3 and each.place > lowly.place]
    assert all(world.first[each] >= world.first[lowly] for each in behind)


def test_the_growing_go_on_while_a_long_prompt_is_read():
    world = World(1, rows=4, step_tokens=10, blocks=100)
    short, long = Sample([1, 2]), Sample([3] * 100)
    world.alive |= {short: 30, long: 101}
    world.born |= {short: 0, long: 0}
    world.scheduler.submit(short)
    world.scheduler.commit(plan := world.scheduler.plan())
    assert plan.parts[0].sample is short
    short.tokens.append(1)
    world.cache[short] = 2
    world.scheduler.submit(long)
    for _ in range(11):
        plan = world.step()
        assert plan.growing == [short]
        assert [part.stop - part.start for part in plan.parts] in ([9], [1])
        assert long.growing == (len(long.tokens) > 100)


def test_a_preempted_sample_keeps_its_place_and_its_tokens():
    limits, blocks = Limits(rows=4, step_tokens=50), Blocks(6, 4, shares=False)
    scheduler = Scheduler(limits, blocks)
    early, late = Sample([1] * 7), Sample([2] * 7)
    scheduler.submit(early)
    scheduler.submit(late)
    lengths = []
    for _ in range(12):
        plan = scheduler.plan()
        scheduler.commit(plan)
        for each in (*plan.growing, *(part.sample for part in plan.parts if part.last)):
            each.tokens.append(0)
        lengths.append((len(early.tokens), len(late.tokens)))
    assert scheduler.preemptions == 1
    assert scheduler.waiting == [late]
    assert lengths[-1][0] == 7 + 12
    assert late.tokens[:7] == [2] * 7
    assert len(late.tokens) > 7
    scheduler.remove(early)
    plan = scheduler.plan()
    assert plan.parts[0].sample is late
    assert (plan.parts[0].start, plan.parts[0].stop) == (0, len(late.tokens))


def test_a_deadline_that_is_not_needed_any_more_holds_nothing():
    scheduler = Scheduler(Limits(rows=2, step_tokens=8), Blocks(8, 4, shares=False))
    waits = Sample([1], deadline=50.0)
    scheduler.submit(waits)
    gone = [weakref.ref(_ended_early(scheduler)) for _ in range(1_000)]
    gc.collect()
    assert sum(each() is not None for each in gone) < 50
    assert scheduler.late(49.0) == []
    assert scheduler.late(50.0) == [waits]


def _ended_early(scheduler):
    sample = Sample([1], deadline=100.0)
    scheduler.submit(sample)
    scheduler.remove(sample)
    return sample


def test_a_prompt_that_is_known_is_not_read_again():
    scheduler = Scheduler(Limits(), Blocks(20, 4, shares=True))
    first, second = Sample([1] * 10), Sample([1] * 10 + [2])
    scheduler.submit(first)
    scheduler.commit(scheduler.plan())
    scheduler.submit(second)
    first.tokens.append(3)
    plan = scheduler.plan()
    assert [(part.start, part.stop) for part in plan.parts] == [(8, 11)]
    assert second.blocks[:2] == first.blocks[:2]


def test_a_step_must_have_room_to_read():
    with pytest.raises(ValidationError, match="never reads a prompt"):
        Limits(rows=8, step_tokens=8)
