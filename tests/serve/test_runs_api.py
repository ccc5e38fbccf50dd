"""The curves of a run as they grow: whole lines only, from where one stopped, and nothing outside the folder."""

import json
import os

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from clearhead.serve.app import application
from clearhead.serve.config import ServeConfig
from clearhead.serve.runs import PART, lines, news

FIRST = {"kind": "train", "update": 50, "loss": 8.25, "nll": 8.125}
SECOND = {"kind": "valid", "update": 60, "loss": 4.5, "samples": [{"source": "一", "output": "a", "reference": "b"}]}


def write(folder, *rows, rest=""):
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows) + rest
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    return folder / "metrics.jsonl"


@pytest.fixture
def client(hall, tmp_path):
    def build(**changes):
        config = ServeConfig(**{"runs": tmp_path / "runs", **changes})
        return TestClient(application(hall, config), base_url="http://127.0.0.1")

    return build


def test_runs_are_listed_the_newest_first(client, tmp_path):
    runs = tmp_path / "runs"
    for age, name in enumerate(["old", "new"]):
        os.utime(write(runs / name, FIRST), (1_000 + age, 1_000 + age))
    (runs / "new" / "config.json").write_text("{}")
    (runs / "empty").mkdir()
    write(runs / ".hidden", FIRST)
    answer = client().get("/api/runs").json()
    assert answer["served"] is True
    assert [(each["name"], each["finished"]) for each in answer["runs"]] == [("new", True), ("old", False)]


def test_a_run_folder_itself_is_a_run(client, tmp_path):
    write(tmp_path / "runs", FIRST)
    assert [each["name"] for each in client().get("/api/runs").json()["runs"]] == ["runs"]
    assert client().get("/api/runs/runs/metrics").json()["lines"] == [FIRST]


def test_without_a_folder_there_are_no_runs(client):
    found = client(runs=None)
    assert found.get("/api/runs").json() == {"served": False, "runs": []}
    assert found.get("/api/runs/any").status_code == 404


def test_a_folder_that_is_not_there_yet_has_no_runs(client, tmp_path):
    assert client(runs=tmp_path / "later").get("/api/runs").json()["runs"] == []


def test_reading_goes_on_where_it_stopped_and_waits_for_the_end_of_a_line(client, tmp_path):
    path = write(tmp_path / "runs" / "a", FIRST, rest='{"kind": "valid", "upd')
    ask = client()
    first = ask.get("/api/runs/a/metrics").json()
    assert first["lines"] == [FIRST]
    follow = {"offset": first["next"], "edition": first["edition"]}
    assert ask.get("/api/runs/a/metrics", params=follow).json()["lines"] == []
    write(tmp_path / "runs" / "a", FIRST, SECOND)
    second = ask.get("/api/runs/a/metrics", params=follow).json()
    assert (second["lines"], second["anew"]) == ([SECOND], False)
    assert second["next"] == path.stat().st_size


def test_a_file_that_was_written_anew_is_read_from_its_start(tmp_path):
    path = write(tmp_path / "a", FIRST, SECOND)
    before = news(path, 0, "")
    other = tmp_path / "other"
    other.write_text(json.dumps(SECOND) + "\n")
    other.replace(path)
    after = news(path, before["next"], before["edition"])
    assert (after["lines"], after["anew"]) == ([SECOND], True)
    shorter = news(path, 10**9, after["edition"])
    assert (shorter["lines"], shorter["anew"]) == ([SECOND], True)


def test_a_long_file_comes_in_parts_that_together_are_the_whole(tmp_path):
    rows = [{"kind": "train", "update": each, "note": "x" * 50_000} for each in range(50)]
    path = write(tmp_path / "a", *rows)
    found, part = [], {"next": 0, "edition": "", "more": True}
    while part["more"]:
        part = news(path, part["next"], part["edition"])
        found += part["lines"]
    assert found == rows
    assert path.stat().st_size > 2 * PART


def test_a_line_of_a_megabyte_does_not_stop_the_reading(tmp_path):
    path = write(tmp_path / "a", {"kind": "train", "update": 1, "note": "x" * (2 * PART)}, FIRST)
    found, part = [], {"next": 0, "edition": "", "more": True}
    while part["more"]:
        part = news(path, part["next"], part["edition"])
        found += part["lines"]
    assert found == [FIRST]


@pytest.mark.parametrize(
    "raw",
    [b"{", b"[]", b"7", b'{"kind": 1, "update": 1}', b'{"kind": "a", "update": "b"}', b"\xff\xfe", b"[" * 9_999, b""],
)
def test_what_is_no_line_is_left_out(raw):
    assert list(lines(raw + b"\n" + json.dumps(FIRST).encode() + b"\n")) == [FIRST]


def test_numbers_that_are_none_are_left_out():
    raw = b'{"kind": "train", "update": 1, "loss": NaN, "norm": Infinity, "rate": 0.5, "deep": {"a": 1}, "no": null}\n'
    assert list(lines(raw)) == [{"kind": "train", "update": 1, "rate": 0.5}]


def test_the_recipe_tells_how_many_updates_are_planned(client, tmp_path):
    write(tmp_path / "runs" / "a", FIRST)
    recipe = tmp_path / "runs" / "a" / "recipe.yaml"
    for text, planned in (("train:\n  updates: 70\n", 70), ("train: 3", None), (": [", None), ("", None)):
        recipe.write_text(text)
        assert client().get("/api/runs/a").json() == {"recipe": text, "updates": planned, "finished": False}


def test_nothing_outside_the_folder_is_read(client, tmp_path):
    secret = write(tmp_path / "secret", FIRST)
    write(tmp_path / "runs" / "a", FIRST)
    (tmp_path / "runs" / "link").symlink_to(secret.parent, target_is_directory=True)
    (tmp_path / "runs" / "file").mkdir()
    (tmp_path / "runs" / "file" / "metrics.jsonl").symlink_to(secret)
    ask = client()
    assert [each["name"] for each in ask.get("/api/runs").json()["runs"]] == ["a"]
    for name in ("link", "file", "..%2Fsecret", "..", "%2e%2e%2fsecret", "a%2F..%2F..%2Fsecret", "a%00"):
        assert ask.get(f"/api/runs/{name}/metrics").status_code in (404, 405), name


def test_the_recipe_of_a_link_is_not_read(client, tmp_path):
    write(tmp_path / "runs" / "a", FIRST)
    secret = tmp_path / "secret"
    secret.write_text("password")
    (tmp_path / "runs" / "a" / "recipe.yaml").symlink_to(secret)
    assert client().get("/api/runs/a").json()["recipe"] == ""
