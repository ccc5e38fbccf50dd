"""clearhead train --dry-run: what it tells is what the run does, and it leaves nothing."""

import json
import tempfile

import pytest

from clearhead.train.trainer import Trainer


@pytest.fixture
def told(call, recipe, tmp_path, monkeypatch):
    """A function from overrides to the forecast of the tiny recipe."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def forecast(*settings):
        done = call("train", recipe, *settings, "--dry-run", "--json", "--out", tmp_path / "run")
        assert done.status == 0, done
        return json.loads(done.out.splitlines()[-1])

    return forecast


def test_it_tells_what_the_run_then_does_and_leaves_nothing(call, told, recipe, tmp_path):
    plan = ("train.updates=50", "train.checkpoint_every=50", "train.keep=1")
    facts = told(*plan)
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "tmp").iterdir())
    assert call("train", recipe, *plan, "--out", tmp_path / "run").status == 0
    history = json.loads((tmp_path / "run/config.json").read_text())["history"]
    assert facts["parameters"] == facts["trained_parameters"] == history["parameters"]
    lines = [json.loads(each) for each in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert facts["tokens"] == next(each["tokens"] for each in lines if each["kind"] == "train" and each["update"] == 50)
    assert facts["updates"] == 50
    newest = tmp_path / "run/checkpoints/update-00000050"
    on_disk = sum(each.stat().st_size for each in newest.iterdir())
    assert facts["checkpoint_bytes"] == pytest.approx(on_disk, rel=0.2)  # headers weigh, at this size
    whole = sum(each.stat().st_size for each in (tmp_path / "run").rglob("*.safetensors"))
    assert whole < facts["disk_bytes"]
    assert facts["optimizer_bytes"] == pytest.approx(2 * 4 * facts["parameters"], rel=0.01)
    assert facts["gradient_bytes"] == 4 * facts["parameters"]
    assert facts["memory_bytes"] == sum(
        facts[f"{each}_bytes"] for each in ("weight", "gradient", "optimizer", "activation")
    )


def test_time_is_that_of_measured_updates(told, monkeypatch):
    monkeypatch.setattr(Trainer, "rehearse", lambda self, updates: iter([self._begin() and 9.0, 9.0, 1.0, 3.0, 2.0]))
    facts = told("train.updates=600")
    assert (facts["seconds_per_update"], facts["training_seconds"]) == (2.0, 1200.0)
    assert told("train.updates=600", "train.minutes=10")["updates"] == 300


def test_each_choice_shows_in_the_memory(told):
    plain = told()
    again, shard, frozen = (
        told(*each)
        for each in (
            ["train.recompute=true"],
            ["train.accumulate=2", "train.processes=2", "train.parallel=shard"],
            ["train.freeze=[encoder]"],
        )
    )
    assert again["activation_bytes"] < plain["activation_bytes"]
    assert "recomputing blocks" in again["machine"]
    assert shard["optimizer_bytes"] == plain["optimizer_bytes"] // 2
    assert "2 processes x 1 threads (shard)" in shard["machine"]
    assert frozen["gradient_bytes"] < plain["gradient_bytes"]
    assert frozen["trained_parameters"] < frozen["parameters"]


def test_a_table_is_printed_for_people(call, recipe, tmp_path):
    done = call("train", recipe, "--dry-run", "--out", tmp_path / "run")
    assert done.status == 0
    assert {"parameters", "activation", "training", "checkpoint", "disk free"} <= {
        line.split("  ")[0] for line in done.out.splitlines()
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--json"], "only a dry run prints JSON"), (["--dry-run", "--resume"], "a dry run continues nothing")],
)
def test_options_without_meaning_are_refused(call, recipe, options, message):
    done = call("train", recipe, *options)
    assert (done.status, done.out) == (2, "")
    assert message in done.complaint
