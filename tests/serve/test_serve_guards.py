"""What every request passes: keys, hosts, origins, sizes, numbers; and what every answer carries."""

import http.client
import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from clearhead.serve.app import application
from clearhead.serve.config import ServeConfig
from clearhead.serve.hall import Hall
from clearhead.serve.keys import is_open
from servers import held, running, tiny_model, until

KEY, OTHER = "sk-first", "sk-ключ"
PATHS = ["/v1/models", "/languages", "/metrics", "/openapi.json", "/api/runs", "/nowhere"]
HEADERS = ["content-security-policy", "x-content-type-options", "referrer-policy", "x-frame-options"]


@pytest.fixture(scope="module")
def locked():
    """A server that needs a key and takes small requests."""
    hall = Hall.of({"writer": tiny_model("writer"), "translator": tiny_model("translator")})
    limits = {"max_body": 2_000, "read_seconds": 1.0}
    with running(hall, api_keys=(KEY, OTHER), allowed_origins=("https://a.example",), **limits) as found:
        yield found


def error(response):
    """The error in an answer, which has OpenAI's form."""
    told = response.json()["error"]
    assert set(told) == {"message", "type", "param", "code"}
    return told


@pytest.mark.parametrize("path", PATHS)
def test_without_a_key_nothing_is_told(locked, path):
    for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}, {"Authorization": "Basic " + KEY}):
        response = httpx.get(locked + path, headers=given)
        assert response.status_code == 401
        assert error(response)["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_any_of_the_keys_opens(locked, key):
    assert httpx.get(f"{locked}/v1/models", headers={"Authorization": f"Bearer {key}".encode()}).status_code == 200


def test_a_key_in_the_body_opens_translations(locked):
    asked = {"q": "abc"}
    assert httpx.post(f"{locked}/translate", json=asked).status_code == 401
    assert httpx.post(f"{locked}/translate", json={**asked, "api_key": "wrong"}).status_code == 401
    assert httpx.post(f"{locked}/translate", json={**asked, "api_key": KEY}).status_code == 200
    assert httpx.post(f"{locked}/translate", json=asked, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


def test_health_needs_no_key(locked):
    assert httpx.get(f"{locked}/health").json() == {"status": "ok"}
    assert httpx.get(f"{locked}/ready").json() == {"status": "ready"}


def test_every_route_but_the_open_ones_needs_a_key(hall):
    app = application(hall, ServeConfig())
    closed = [each for each in app.openapi()["paths"] if not is_open(each)]
    assert {"/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/tokenize", "/metrics"} <= set(closed)


@pytest.mark.parametrize("path", [*PATHS, "/health"])
def test_every_answer_is_sealed(locked, path):
    response = httpx.get(locked + path)
    assert all(name in response.headers for name in HEADERS)
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "server" not in response.headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "localhost.evil:80"])
def test_another_name_for_this_machine_is_refused(address, host):
    response = httpx.get(f"{address}/health", headers={"Host": host})
    assert response.status_code in (400, 403)  # 400: uvicorn itself refuses


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:99", "LOCALHOST:1", "[::1]:8000"])
def test_names_of_this_machine_are_served(address, host):
    assert httpx.get(f"{address}/health", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_may_not_ask(address, locked):
    asked = {"json": {"prompt": "a"}}
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        response = httpx.post(f"{address}/v1/completions", headers={"Origin": origin}, **asked)
        assert response.status_code == 403
        assert error(response)["code"] == "wrong_origin"
    assert httpx.post(f"{address}/v1/completions", headers={"Origin": address}, **asked).status_code == 200
    allowed = {"Origin": "https://a.example", "Authorization": f"Bearer {KEY}"}
    response = httpx.get(f"{locked}/v1/models", headers=allowed)
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert httpx.options(f"{locked}/v1/models", headers=preflight).status_code == 200
    assert "access-control-allow-origin" not in httpx.get(f"{address}/v1/models").headers


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_request_is_refused(locked, chunked):
    content = json.dumps({"model": "writer", "prompt": "x" * 3_000}).encode()
    body = iter([content[:100], content[100:]]) if chunked else content
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    response = httpx.post(f"{locked}/v1/completions", content=body, headers=headers)
    assert response.status_code == 413
    assert error(response)["code"] == "too_large"


def test_a_request_that_never_comes_to_its_end_is_given_up(locked):
    place = urlsplit(locked)
    with socket.create_connection((place.hostname, place.port), timeout=10) as line:
        head = f"POST /translate HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: 100\r\n\r\n{{"
        line.sendall(head.encode())
        assert line.recv(100).startswith(b"HTTP/1.1 408")


def test_a_request_too_many_is_told_when_to_come_back():
    hall = Hall.of({"writer": tiny_model("writer", length=20_000, position="rope")})
    with running(hall, max_requests=1) as found, httpx.Client(base_url=found) as client:
        asked = {"prompt": "a", "max_tokens": 19_000, "stream": True, "logit_bias": {"3": -100}}
        with client.stream("POST", "/v1/completions", json=asked) as first:
            lines = first.iter_lines()  # as long as this lives, so does the request
            next(lines)
            response = httpx.post(f"{found}/v1/completions", json={"prompt": "a"})
            assert response.status_code == 429
            assert response.headers["retry-after"] == "1"
            assert error(response)["type"] == "rate_limit_error"
            assert httpx.get(f"{found}/health").status_code == 200
            assert b"clearhead_http_refused_total 1.0" in httpx.get(f"{found}/metrics").content
        until(lambda: held(hall) == 0)
        until(lambda: client.post("/v1/completions", json={"prompt": "a"}).status_code == 200)


def test_a_line_that_is_full_is_told_when_to_come_back():
    config = ServeConfig().engine
    engine = config.model_copy(update={"limits": config.limits.model_copy(update={"rows": 1, "waiting": 1})})
    model = tiny_model("writer")
    model.engine = engine
    with running(Hall.of({"writer": model})) as found:
        response = httpx.post(f"{found}/v1/completions", json={"prompt": ["a", "b", "c", "d"], "max_tokens": 200})
        assert response.status_code == 429
        assert error(response)["code"] == "rate_limit_exceeded"
        assert response.headers["retry-after"] == "1"


def test_nothing_of_the_machine_is_in_an_error(locked, hall, monkeypatch):
    from clearhead.core.errors import DataError
    from clearhead.serve.errors import told

    status, content = told(DataError("no such file", where="/home/someone/secret/run 7/a.txt", found="/tmp/x/y"))
    assert status == 400
    assert "someone" not in content["error"]["message"]
    assert "/tmp" not in content["error"]["message"]
    status, content = told(RuntimeError("a secret"))
    assert status == 500
    assert content["error"]["message"].startswith("internal error ")


def test_a_failure_of_ours_is_a_number_that_the_log_knows(address, hall, monkeypatch, caplog):
    monkeypatch.setattr(type(hall.find("writer").model.bundle.target), "decode", lambda *a, **k: 1 / 0)
    response = httpx.post(f"{address}/detokenize", json={"tokens": [5]})
    assert response.status_code == 500
    number = error(response)["message"].removeprefix("internal error ")
    assert "division" not in response.text
    assert any(number in each.getMessage() for each in caplog.records)


def test_a_head_that_is_no_http_harms_nobody(address):
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port), timeout=10) as line:
        line.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 400")
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
