"""Each bad input is refused with a status of the client's own and OpenAI's form of an error."""

import json

import pytest

SAID = [{"role": "user", "content": "hello"}]
COMPLETION = {"model": "writer", "prompt": "a", "max_tokens": 3}
CHAT = {"model": "writer", "messages": SAID, "max_tokens": 3}
BAD_SAMPLING = [
    {"n": 0},
    {"n": 1000},
    {"n": True},
    {"n": 2, "temperature": 0},
    {"temperature": -1},
    {"temperature": "warm"},
    {"temperature": float("nan")},
    {"temperature": float("inf")},
    {"top_p": 0},
    {"top_p": 1.5},
    {"top_k": -1},
    {"min_p": 2},
    {"repetition_penalty": 0},
    {"presence_penalty": 3},
    {"frequency_penalty": -3},
    {"seed": 2**70},
    {"seed": 0.5},
    {"logit_bias": {"x": 1}},
    {"logit_bias": {"-1": 1}},
    {"logit_bias": {"1": 1000}},
    {"logit_bias": {"999999": 1}},
    {"logit_bias": {str(each): -100 for each in range(2000)}},
    {"stop": ""},
    {"stop": ["a"] * 17},
    {"stop": [["a"]]},
    {"max_tokens": 0},
    {"max_tokens": -5},
    {"max_tokens": 1.5},
    {"stream": "perhaps"},
    {"stream_options": {"unknown": 1}},
    {"unknown": 1},
    {"model": 5},
]
BAD_COMPLETIONS = [
    {"prompt": None},
    {"prompt": []},
    {"prompt": [[]]},
    {"prompt": ["a", 1]},
    {"prompt": [999_999]},
    {"prompt": [-1]},
    {"prompt": ["a"] * 300},
    {"prompt": "a" * 10_000},
    {"prompt": {"text": "a"}},
    {"logprobs": 21},
    {"logprobs": -1},
    {"echo": True, "logprobs": 1},
    {"best_of": 2},
    {"suffix": "end"},
]
BAD_CHATS = [
    {"messages": None},
    {"messages": []},
    {"messages": [{}]},
    {"messages": [{"role": "user"}] * 2000},
    {"messages": [{"role": "tool", "content": "a"}]},
    {"messages": [{"role": "user", "content": 5}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
    {"top_logprobs": 3},
    {"logprobs": True, "top_logprobs": 50},
    {"response_format": {"type": "xml"}},
    {"response_format": {"type": "json_schema"}},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "https://example.org/x"}}}},
    {"response_format": {"type": "json_object", "json_schema": {"schema": {}}}},
    {"tools": [{"type": "function"}]},
    {"functions": [{"name": "f"}]},
    {"modalities": ["audio"]},
    {"audio": {"voice": "a"}},
]
BAD_EMBEDDINGS = [
    {},
    {"input": None},
    {"input": []},
    {"input": [[]]},
    {"input": [999_999]},
    {"input": "a" * 10_000},
    {"input": ["a"] * 300},
    {"input": "a", "dimensions": 5},
    {"input": "a", "encoding_format": "int8"},
]
BAD_TOKENS = [{}, {"prompt": 5}, {"prompt": "a", "messages": SAID}, {"prompt": "a", "side": "left"}]
BAD_IDS = [{}, {"tokens": "a"}, {"tokens": [999_999]}, {"tokens": [-1]}, {"tokens": [0.5]}, {"tokens": [10**30]}]


def cases():
    for path, plain, own in (
        ("/v1/completions", COMPLETION, BAD_COMPLETIONS),
        ("/v1/chat/completions", CHAT, BAD_CHATS),
    ):
        yield from ((path, {**plain, **each}) for each in [*BAD_SAMPLING, *own])
    yield from (("/v1/embeddings", {"model": "writer", **each}) for each in BAD_EMBEDDINGS)
    yield from (("/tokenize", each) for each in BAD_TOKENS)
    yield from (("/detokenize", each) for each in BAD_IDS)


@pytest.mark.parametrize(("path", "asked"), list(cases()), ids=lambda each: str(each)[-60:])
def test_a_bad_request_is_refused(http, path, asked):
    response = http.post(path, content=json.dumps(asked), headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text
    told = response.json()["error"]
    assert set(told) == {"message", "type", "param", "code"}
    assert told["type"] == "invalid_request_error"
    assert "\n" not in told["message"]
    assert "Traceback" not in told["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b'"a"', b"\xff\xfe", b"[" * 100_000, b"9" * 5_000])
def test_a_body_that_is_no_request_is_refused(http, content):
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/tokenize"):
        response = http.post(path, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 400, response.text
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_a_model_that_is_not_served_is_not_found(http):
    for path, asked in (
        ("/v1/completions", COMPLETION),
        ("/v1/chat/completions", CHAT),
        ("/tokenize", {"prompt": "a"}),
    ):
        response = http.post(path, json={**asked, "model": "writter"})
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"
    assert http.get("/v1/models/no/such").status_code == 404
    assert http.post("/v1/embeddings", json={"input": "a", "model": ""}).status_code == 404


def test_other_methods_and_paths_have_the_same_form(http):
    assert http.get("/v1/completions").status_code == 405
    assert http.get("/v1/completions").json()["error"]["type"] == "invalid_request_error"
    assert http.get("/v1/none").json()["error"]["message"] == "there is nothing here"


def test_a_parameter_that_is_wrong_is_named(http):
    told = http.post("/v1/completions", json={**COMPLETION, "temperature": -1}).json()["error"]
    assert told["param"] == "temperature"
    told = http.post("/v1/completions", json={**COMPLETION, "tempreature": 1}).json()["error"]
    assert told["message"].startswith("unknown parameter: tempreature") or "tempreature" in told["message"]


def test_parameters_that_ask_for_nothing_are_taken(http):
    nothing = {"user": "me", "metadata": {"a": "b"}, "store": False, "stop": None, "logit_bias": None, "seed": None}
    assert http.post("/v1/completions", json={**COMPLETION, **nothing, "suffix": None}).status_code == 200
    quiet = {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "modalities": ["text"]}
    assert http.post("/v1/chat/completions", json={**CHAT, **nothing, **quiet}).status_code == 200
    greedy = {"temperature": 0, "top_p": 0.9, "top_k": 5}
    assert http.post("/v1/chat/completions", json={**CHAT, **greedy}).status_code == 200


def test_a_text_that_is_no_unicode_harms_nobody(http):
    odd = "a\ud800b"
    echoed = http.post("/v1/completions", content=json.dumps({**COMPLETION, "prompt": odd, "echo": True}))
    assert echoed.status_code in (200, 400)
    for path, asked in (("/tokenize", {"prompt": odd}), ("/translate", {"q": odd}), ("/v1/embeddings", {"input": odd})):
        headers = {"Content-Type": "application/json"}
        assert http.post(path, content=json.dumps(asked), headers=headers).status_code in (200, 400)
    assert http.post("/tokenize", content=json.dumps({"prompt": "a", "model": odd})).status_code in (400, 404)


def test_a_constraint_that_no_token_fits_is_the_askers_mistake(http):
    bias = {str(each): -100 for each in range(260)}
    response = http.post("/v1/completions", json={**COMPLETION, "logit_bias": bias})
    assert response.status_code in (200, 400)
