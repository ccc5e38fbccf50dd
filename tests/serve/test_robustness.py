"""Under load and misuse: who goes away frees what he held, who is slow stalls nobody, and an end is orderly."""

import asyncio
import contextlib
import gc
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from clearhead.serve.config import ServeConfig
from clearhead.serve.hall import Hall
from clearhead.serve.server import Server, listen, settings
from servers import held, running, tiny_model, until

NO_END = {"logit_bias": {"3": -100}}  # the end of a text
ENDLESS = {"prompt": "a", "max_tokens": 19_000, **NO_END}


def long_hall(**changes):
    """A model whose answers take many seconds."""
    return Hall.of({"writer": tiny_model("writer", length=20_000, position="rope")}, **changes)


@contextlib.contextmanager
def raw(address, path, asked):
    """A connection that has sent a request and reads nothing by itself."""
    place, body = urlsplit(address), json.dumps(asked).encode()
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)  # what is not read fills it soon
        line.connect((place.hostname, place.port))
        head = f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        line.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        yield line


def blocked(gate, seen):
    """A translation that waits for a gate."""

    def n_best(texts, search=None):
        seen.extend(texts)
        assert gate.wait(20)
        return [[("", None)] for _ in texts]

    return n_best


def data(response):
    """The events of a stream, without their end."""
    lines = [each.removeprefix("data: ") for each in response.text.splitlines() if each]
    assert lines[-1] == "[DONE]"
    return [json.loads(each) for each in lines[:-1]]


@pytest.mark.parametrize("stream", [True, False])
def test_who_goes_away_frees_what_he_held(stream):
    hall = long_hall()
    with running(hall) as found:
        with raw(found, "/v1/completions", {**ENDLESS, "stream": stream, "n": 3}):
            until(lambda: held(hall) > 3)
        until(lambda: held(hall) == 0)
        assert hall.find(None).engine.statistics.answers == 3


def test_who_goes_away_takes_his_sentences_out_of_the_line(monkeypatch):
    model, gate, seen = tiny_model("translator"), threading.Event(), []
    monkeypatch.setattr(model, "n_best", blocked(gate, seen))
    hall = Hall.of({"translator": model})
    with running(hall) as found:
        with raw(found, "/translate", {"q": "first"}):
            until(lambda: seen == ["first"])
            with raw(found, "/translate", {"q": ["Second", "third"]}):
                until(lambda: len(hall.find(None).translations._waiting) == 2)
            until(lambda: all(each.found.done() for each in hall.find(None).translations._waiting))
        gate.set()
        assert httpx.post(f"{found}/translate", json={"q": "last"}).status_code == 200
    assert seen == ["first", "last"]


def test_a_slow_reader_stalls_nobody_and_is_given_up():
    hall = long_hall(backlog=100)
    with (
        running(hall, read_seconds=1.0) as found,
        raw(found, "/v1/completions", {**ENDLESS, "stream": True, "n": 4, "logprobs": 20}),
    ):
        until(lambda: held(hall) > 4)
        quick = httpx.post(f"{found}/v1/completions", json={"prompt": "b", "max_tokens": 20}, timeout=20)
        assert quick.status_code == 200
        until(lambda: held(hall) == 0)
        assert hall.find(None).engine.statistics.chosen_tokens < 4 * 19_000


def test_an_answer_that_takes_too_long_is_given_up():
    hall = long_hall()
    with running(hall, request_seconds=0.3) as found:
        response = httpx.post(f"{found}/v1/completions", json=ENDLESS, timeout=20)
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "timeout"
        assert response.headers["x-should-retry"] == "false"
        streamed = httpx.post(f"{found}/v1/completions", json={**ENDLESS, "stream": True}, timeout=20)
        *parts, last = data(streamed)
        assert streamed.status_code == 200
        assert last["error"]["code"] == "timeout"
        assert parts[0]["choices"][0]["text"]
        until(lambda: held(hall) == 0)


def test_a_translation_that_takes_too_long_is_given_up(monkeypatch):
    model, gate = tiny_model("translator"), threading.Event()
    monkeypatch.setattr(model, "n_best", blocked(gate, []))
    with running(Hall.of({"translator": model}), request_seconds=0.2) as found:
        response = httpx.post(f"{found}/translate", json={"q": "a"})
        gate.set()
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "timeout"


@contextlib.contextmanager
def stoppable(hall, **changes):
    """A server, its address and its thread."""
    config = ServeConfig(port=0, **changes)
    with listen(config) as listener:
        listener.listen(8)
        started = threading.Event()
        server = Server(settings(hall, config), started.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert started.wait(20)
        yield server, f"http://127.0.0.1:{listener.getsockname()[1]}", thread
        thread.join(20)
        assert not thread.is_alive()


def test_a_server_that_stops_finishes_what_runs():
    hall = Hall.of({"writer": tiny_model("writer")})
    with ThreadPoolExecutor(2) as pool, stoppable(hall, grace_seconds=20) as (server, found, thread):
        asked = {"prompt": "a", "max_tokens": 250, **NO_END}
        whole = pool.submit(httpx.post, f"{found}/v1/completions", json=asked, timeout=20)
        streamed = pool.submit(httpx.post, f"{found}/v1/completions", json={**asked, "stream": True}, timeout=20)
        until(lambda: hall.find(None).engine.statistics.answered == 2)
        server.should_exit = True
        assert whole.result().json()["choices"][0]["finish_reason"] == "length"
        assert data(streamed.result())[-1]["choices"][0]["finish_reason"] == "length"
        thread.join(20)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{found}/health")
    assert hall.closing
    assert not hall.find(None).engine.alive


def test_a_server_that_stops_waits_no_longer_than_its_grace():
    hall = long_hall()
    with stoppable(hall, grace_seconds=1) as (server, found, _), raw(found, "/v1/completions", ENDLESS):
        until(lambda: held(hall) > 0)
        started = time.monotonic()
        server.should_exit = True
        until(lambda: not hall.find(None).engine.alive)
        assert time.monotonic() - started < 15
    assert held(hall) == 0


def test_an_engine_that_has_ended_is_told():
    hall = Hall.of({"writer": tiny_model("writer"), "other": tiny_model("writer")})
    with running(hall) as found:
        engine = hall.find("writer").engine
        with engine._wake:
            engine._closing = True
            engine._wake.notify()
        until(lambda: not engine._thread.is_alive())
        assert httpx.get(f"{found}/ready").status_code == 503
        assert httpx.get(f"{found}/health").status_code == 200
        assert httpx.post(f"{found}/v1/completions", json={"prompt": "a", "model": "writer"}).status_code == 503
        assert httpx.post(f"{found}/v1/completions", json={"prompt": "a", "model": "other"}).status_code == 200


def test_a_model_that_breaks_ends_one_answer_only(monkeypatch):
    hall = Hall.of({"writer": tiny_model("writer")})
    engine = hall.find(None).model.completer.engine
    with running(hall) as found:
        with monkeypatch.context() as broken:
            broken.setattr(engine, "_run", lambda plan: 1 / 0)
            response = httpx.post(f"{found}/v1/completions", json={"prompt": "a"})
            assert response.status_code == 500
            assert "division" not in response.text
        assert httpx.post(f"{found}/v1/completions", json={"prompt": "a"}).status_code == 200


def asked(number):
    """A request of one of many kinds; every fifth goes away early."""
    kinds = [
        ("/v1/completions", {"model": "writer", "prompt": "abc", "max_tokens": 4}),
        ("/v1/completions", {"model": "writer", "prompt": ["a", "b"], "max_tokens": 5, "n": 2, "stop": "x"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, "stream": True}),
        ("/translate", {"q": ["ab", "cd"], "alternatives": 1}),
        ("/v1/completions", {"model": "writer", "prompt": "a" * 900}),
        ("/v1/embeddings", {"model": "reader", "input": "abc"}),
        ("/tokenize", {"prompt": "abc"}),
    ]
    return kinds[number % len(kinds)]


def ask(client, number):
    """One request, or the begin of one."""
    path, content = asked(number)
    if number % 5:
        client.post(path, json=content)
        return
    with client.stream("POST", path, json={**content, "stream": True} if "completions" in path else content):
        pass


def test_nothing_is_left_of_hundreds_of_requests(hall, address):
    def begun(kind):
        gc.collect()
        return sum(type(each) is kind for each in gc.get_objects())

    with ThreadPoolExecutor(8) as pool, httpx.Client(base_url=address, timeout=20) as client:
        list(pool.map(lambda number: ask(client, number), range(40)))
        until(lambda: held(hall) == 0)
        tasks = begun(asyncio.Task)
        list(pool.map(lambda number: ask(client, number), range(300)))
        until(lambda: held(hall) == 0)
    for each in hall.models.values():
        if each.engine is not None:
            until(lambda each=each: not each.engine._readers and not each.model.completer.engine._records)
        if each.translations is not None:
            assert not each.translations._waiting
    assert begun(asyncio.Task) <= tasks + 8
    assert hall.workers.borrowed_tokens == 0
