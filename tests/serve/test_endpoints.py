"""The routes that are not OpenAI's: translations, tokens, health, numbers."""

import httpx
import pytest

from clearhead.generate import SearchConfig
from clearhead.serve.hall import Hall
from servers import running, tiny_model, until


@pytest.fixture
def translator(hall):
    return hall.find("translator").model


def test_a_text_is_translated_as_the_model_does(http, translator):
    found = http.post("/translate", json={"q": "abcdef", "source": "zh", "target": "en", "format": "text"})
    assert found.json() == {"translatedText": translator.translate(["abcdef"])[0]}


def test_a_list_gives_a_list(http, translator):
    found = http.post("/translate", json={"q": ["ab", "", "cde"], "source": "zh", "target": "en"}).json()
    ab, cde = translator.translate(["ab", "cde"])
    assert found == {"translatedText": [ab, "", cde]}


def test_a_form_is_a_request_too(http, translator):
    form = {"q": "你好 & co", "source": "zh", "target": "en"}
    assert http.post("/translate", data=form).json()["translatedText"] == translator.translate(["你好 & co"])[0]


def test_alternatives_are_the_next_best_ones(http, translator):
    found = http.post("/translate", json={"q": "abcd", "alternatives": 2, "source": "auto", "target": "en"}).json()
    search = SearchConfig(**{**translator.search.model_dump(), "beams": 3, "n_best": 3})
    first, *others = [text for text, _ in translator.n_best(["abcd"], search)[0]]
    assert found["translatedText"] == first
    assert found["alternatives"] == others
    assert found["detectedLanguage"]["language"] == "zh"


def test_sentences_are_translated_one_by_one_and_lines_stay_lines(http, translator):
    found = http.post("/translate", json={"q": "Ab cd. Ef!\n\nGh", "target": "en"}).json()["translatedText"]
    one, two, three = translator.translate(["Ab cd.", "Ef!", "Gh"])
    assert found == f"{one} {two}\n\n{three}"


def test_languages_are_those_that_are_served(http):
    assert http.get("/languages").json() == [{"code": "zh", "name": "Chinese", "targets": ["en"]}]


def test_a_language_that_nobody_translates_is_refused(http):
    response = http.post("/translate", json={"q": "a", "source": "fr", "target": "en"})
    assert response.status_code == 400
    assert "zh-en" in response.json()["error"]["message"]
    assert http.post("/translate", json={"q": "a", "model": "writer"}).status_code == 400
    assert http.post("/translate", json={"q": "a", "model": "none"}).status_code == 404
    assert http.post("/translate", json={"q": "a" * 400}).status_code == 400
    assert http.post("/translate", json={"q": "a", "format": "html"}).status_code == 400
    assert http.post("/translate", content=b"{").status_code == 400
    assert http.post("/translate", content=b"\xff").status_code == 400
    assert http.post("/translate", content=b"[" * 100_000).status_code == 400


def test_translations_of_many_clients_are_computed_together(monkeypatch):
    import threading
    from concurrent.futures import ThreadPoolExecutor

    model, gate, sizes = tiny_model("translator"), threading.Event(), []
    plain = model.n_best

    def slowly(texts, search=None):
        sizes.append(len(texts))
        assert gate.wait(20)
        return plain(texts, search)

    monkeypatch.setattr(model, "n_best", slowly)
    texts = [chr(97 + each) * 3 for each in range(12)]
    with running(Hall.of({"translator": model})) as found, ThreadPoolExecutor(16) as pool:
        first = pool.submit(httpx.post, f"{found}/translate", json={"q": "first"}, timeout=20)
        until(lambda: bool(sizes))
        others = [pool.submit(httpx.post, f"{found}/translate", json={"q": each}, timeout=20) for each in texts]
        long = pool.submit(httpx.post, f"{found}/translate", json={"q": "x" * 400}, timeout=20)
        until(lambda: b"clearhead_http_open 14.0" in httpx.get(f"{found}/metrics").content)
        gate.set()
        assert first.result().status_code == 200
        assert [each.result().json()["translatedText"] for each in others] == [plain([each])[0][0][0] for each in texts]
        assert long.result().status_code == 400  # a text that cannot be translated spoils no other one
    assert max(sizes) >= 12


def test_tokens_of_a_text_and_back(http, hall):
    tokenizer = hall.find("writer").model.bundle.target
    found = http.post("/tokenize", json={"prompt": "héllo", "model": "writer"}).json()
    assert found["tokens"] == tokenizer.encode("héllo")
    assert found["count"] == len(found["tokens"])
    assert found["max_model_len"] == 300
    assert http.post("/detokenize", json={"tokens": found["tokens"]}).json() == {"prompt": "héllo"}


def test_tokens_of_a_conversation_are_its_prompt(http, hall):
    said = [{"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}]
    found = http.post("/tokenize", json={"messages": said}).json()
    assert found["tokens"] == hall.find("writer").model.conversation([{"role": "user", "content": "hello"}])


def test_numbers_tell_what_was_done(http):
    http.post("/v1/completions", json={"model": "writer", "prompt": "abc", "max_tokens": 4})
    http.post("/translate", json={"q": "abc"})
    told = http.get("/metrics").text
    for name in ("waiting", "running", "blocks", "blocks_held", "cache_bytes", "tokens_per_second"):
        assert f'clearhead_{name}{{model="writer"}}' in told
    for name in ("chosen_tokens_total", "read_tokens_total", "requests_total", "answers_total", "preemptions_total"):
        assert f'clearhead_{name}{{model="writer"}}' in told
    assert 'clearhead_first_token_seconds_bucket{le="0.005",model="writer"}' in told
    assert 'clearhead_http_requests_total{path="/v1/completions",status="200"}' in told
    assert "clearhead_translation_batch_sum" in told


def test_unknown_paths_make_no_new_labels(http):
    for number in range(5):
        assert http.get(f"/made-up-{number}").status_code == 404
    assert "made-up" not in http.get("/metrics").text
