"""The page's questions about the inside of a model: what the library sees, packed small, and refusals in one form."""

import base64

import numpy as np
import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from clearhead.apply.inside import Inside
from clearhead.serve.app import application
from clearhead.serve.config import ServeConfig
from clearhead.serve.inside import packed, signed

TEXT = "ab 你"


@pytest.fixture
def client(hall):
    return TestClient(application(hall, ServeConfig()), base_url="http://127.0.0.1")


def unpacked(text, shape):
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(shape)


def look(client, name, **changes):
    answer = client.post("/api/inside/look", json={"model": name, "text": TEXT, **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_model_is_listed_with_what_it_is(client, hall):
    found = {each["name"]: each for each in client.get("/api/inside/models").json()["models"]}
    assert set(found) == set(hall.models)
    for name, served in hall.models.items():
        config = served.model.bundle.model.config
        assert found[name]["kind"] == config.kind
        assert found[name]["parameters"] == sum(each.numel() for each in served.model.bundle.model.parameters())
        assert found[name]["layers"] == {"encoder": config.encoder_layers, "decoder": config.decoder_layers}
        assert (found[name]["mask"] is not None) == (config.kind == "encoder-only")


@pytest.mark.parametrize("name", ["writer", "translator", "reader"])
def test_a_look_is_what_the_library_sees(client, hall, name):
    seen = look(client, name)
    expected = Inside(hall.models[name].model).look(TEXT)
    for side in ("encoder", "decoder"):
        assert [each["id"] for each in seen[side]] == [each.id for each in getattr(expected, side)]
    for told, known in zip(seen["attention"], expected.attention, strict=True):
        assert (told["site"], told["layer"], tuple(told["shape"])) == (known.site, known.layer, known.weights.shape)
        maps = np.stack([unpacked(each, known.weights.shape[1:]) for each in told["maps"]]) / 255
        np.testing.assert_allclose(maps, known.weights, atol=0.5 / 255 + 1e-6)
        assert [each["entropy"] for each in told["heads"]] == [each.entropy for each in known.heads]
    assert seen["lens"]["ids"] == expected.lens.ids.tolist()
    np.testing.assert_allclose(seen["lens"]["probabilities"], expected.lens.probabilities, atol=1e-5)
    assert {int(each) for each in seen["lens"]["words"]} == set(np.unique(expected.lens.ids).tolist())
    for told, known in zip(seen["pictures"], expected.pictures, strict=True):
        values = np.stack([unpacked(each, known.values.shape[1:]) for each in told["maps"]])
        restored = (values.astype(float) - 128) / 127 * told["scale"]
        np.testing.assert_allclose(restored, known.values, atol=told["scale"] / 254 + 1e-6)


def test_signed_numbers_of_nothing_are_zero():
    assert unpacked(signed(np.zeros((1, 2, 2)))["maps"][0], (2, 2)).tolist() == [[128, 128], [128, 128]]
    assert unpacked(packed(np.array([[0.0, 0.5, 1.0, 1.7]])), (4,)).tolist() == [0, 128, 255, 255]


def test_an_alignment_has_a_row_for_each_token_of_the_output(client):
    answer = client.post("/api/inside/alignment", json={"model": "translator", "source": "abc", "output": "de"}).json()
    assert [each["text"] for each in answer["output"]] == ["d", "e"]
    assert answer["shape"] == [2, 4]  # the end of the source is read too
    for each in answer["layers"]:
        np.testing.assert_allclose(unpacked(each, (2, 4)).sum(axis=1) / 255, 1, atol=0.02)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("look", {"model": "writer", "text": "a" * 9_999}, 400),
        ("look", {"model": "reader", "text": ""}, 400),
        ("look", {"model": "nobody", "text": "a"}, 404),
        ("look", {"model": "writer"}, 400),
        ("look", {"model": "writer", "text": 3}, 400),
        ("look", {"model": "writer", "text": "a", "more": 1}, 400),
        ("alignment", {"model": "writer", "source": "a", "output": "b"}, 400),
        ("alignment", {"model": "translator", "source": "a", "output": ""}, 400),
    ],
)
def test_a_refusal_is_one_line_in_the_form_of_openai(client, path, body, status):
    answer = client.post(f"/api/inside/{path}", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    assert "Traceback" not in answer.text


def test_what_is_no_text_is_refused(client):
    body = b'{"model": "writer", "text": "\\ud83d lone", "target": null}'
    answer = client.post("/api/inside/look", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "text"
