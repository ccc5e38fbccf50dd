"""Readers of many tasks: each gets its own tokens, slow ones stall nobody, those that vanish leave nothing behind."""

import asyncio
import gc

import pytest

from clearhead.core.errors import DataError, ModelError
from clearhead.generate.async_engine import AsyncEngine
from clearhead.generate.engine import Engine, EngineConfig
from clearhead.generate.request import BusyError, Request
from clearhead.generate.sampling import SamplingConfig
from clearhead.generate.scheduler import Limits

BOS, EOS = 1, 2
ENDLESS = SamplingConfig(seed=3, bad_words=[[EOS]])


@pytest.fixture
def engine(tiny):
    model = tiny(encoder_layers=0, length=4000, position="rope")
    return Engine(model, EngineConfig(limits=Limits(rows=4, step_tokens=64, waiting=6), cache="paged"), eos=EOS)


def request(prompt=(BOS,), tokens=10, **changes):
    return Request(prompt=prompt, max_tokens=tokens, sampling=ENDLESS, **changes)


async def read(served, asked):
    return [event.token async for event in await served.submit(asked)]


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


def run(engine, scenario):
    """Run a scenario on a served engine; at its end nothing may be left."""

    async def whole():
        async with AsyncEngine(engine) as served:
            await asyncio.wait_for(scenario(served), timeout=30)

    asyncio.run(whole())
    assert not engine.scheduler.busy
    assert engine.blocks.held == 0


def test_each_reader_gets_its_own_tokens(engine):
    asked = [request((BOS, 3 + at), 5 + at) for at in range(5)]
    alone = [answers[0].tokens for answers in engine.generate(asked)]

    async def scenario(served):
        assert await asyncio.gather(*(read(served, each) for each in asked)) == alone

    run(engine, scenario)


def test_all_answers_of_a_request_come_through_one_stream(engine):
    async def scenario(served):
        events = [event async for event in await served.submit(request(n=3))]
        assert sorted(event.answer for event in events) == sorted(list(range(3)) * 10)
        assert sum(event.finish is not None for event in events) == 3

    run(engine, scenario)


def test_a_slow_reader_stalls_nobody(engine):
    async def scenario(served):
        slow = await served.submit(request(tokens=50))
        assert len(await read(served, request((BOS, 4), 300))) == 300
        assert len([event async for event in slow]) == 50  # all were kept for it

    run(engine, scenario)


def test_a_reader_that_vanishes_cancels(engine):
    async def scenario(served):
        closed = await served.submit(request(tokens=3000))
        await anext(closed)
        await closed.aclose()
        dropped = await served.submit(request(tokens=3000))
        await anext(dropped)
        del dropped
        task = asyncio.create_task(read(served, request(tokens=3000)))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del task
        gc.collect()
        async with await served.submit(request(tokens=3000)) as stream:
            await anext(stream)
        await until(lambda: not engine.scheduler.busy)
        assert engine.statistics.chosen_tokens < 6000

    run(engine, scenario)


def test_who_goes_before_being_accepted_leaves_nothing(engine):
    async def scenario(served):
        task = asyncio.create_task(served.submit(request(tokens=3000)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: engine.statistics.requests == 1 and not engine.scheduler.busy)

    run(engine, scenario)


def test_refusals_reach_who_asked_and_nobody_else(engine):
    async def scenario(served):
        fine = await served.submit(request(tokens=40))
        with pytest.raises(DataError, match="unknown token"):
            await served.submit(request((99,)))
        with pytest.raises(BusyError):
            await served.submit(request(n=9))
        assert len([event async for event in fine]) == 40

    run(engine, scenario)


def test_news_are_all_events_in_their_order(engine):
    async def scenario(served):
        alone = await read(served, request(tokens=30))
        stream, found = await served.submit(request(tokens=30)), []
        while news := await stream.news():
            found += [each.token for each in news]
            await asyncio.sleep(0.002)
        assert found == alone
        assert await stream.news() == []

    run(engine, scenario)


def test_one_answer_of_many_is_cancelled(engine):
    async def scenario(served):
        stream = await served.submit(request(tokens=200, n=3))
        served.cancel(stream.number, 1)
        ends = {event.answer: event.finish async for event in stream if event.finish}
        assert ends == {0: "length", 1: "cancelled", 2: "length"}

    run(engine, scenario)


def test_a_reader_too_far_behind_is_cancelled(engine):
    async def whole():
        async with AsyncEngine(engine, backlog=20) as served:
            stream = await served.submit(request(tokens=3000))
            await until(lambda: not engine.scheduler.busy and engine.statistics.requests == 1)
            events = [event async for event in stream]
            assert events[-1].finish == "cancelled"
            assert 20 < len(events) < 100
            assert len(await read(served, request(tokens=15))) == 15
            assert served.alive
        assert not served.alive

    asyncio.run(asyncio.wait_for(whole(), timeout=30))
    assert engine.blocks.held == 0


def test_a_fault_of_the_engine_is_told_from_one_of_the_request(engine, monkeypatch):
    everything = SamplingConfig(bad_words=[[each] for each in range(23)])

    async def scenario(served):
        (own,) = [event async for event in await served.submit(Request(prompt=(BOS,), sampling=everything))]
        assert (own.finish, own.internal) == ("failed", False)
        monkeypatch.setattr(engine, "_run", lambda plan: 1 / 0)
        (ours,) = [event async for event in await served.submit(request())]
        assert (ours.finish, ours.internal) == ("failed", True)

    run(engine, scenario)


def test_closing_ends_every_stream(engine):
    async def whole():
        served = AsyncEngine(engine)
        stream = await served.submit(request(tokens=3900))
        await served.aclose()
        events = [event async for event in stream]
        assert events[-1].finish == "cancelled"
        with pytest.raises(ModelError, match="closed"):
            await served.submit(request())

    asyncio.run(asyncio.wait_for(whole(), timeout=30))
    assert not engine.scheduler.busy


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_an_engine_that_broke(engine, monkeypatch):
    async def whole():
        served = AsyncEngine(engine)
        stream = await served.submit(request(tokens=3900))
        await anext(stream)
        monkeypatch.setattr(engine, "step", lambda: 1 / 0)
        events = [event async for event in stream]
        assert events[-1].finish == "failed"
        assert events[-1].error == "the engine has stopped"
        await served.aclose()

    asyncio.run(asyncio.wait_for(whole(), timeout=30))
