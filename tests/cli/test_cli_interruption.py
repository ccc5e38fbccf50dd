"""Whatever moment a command is stopped at: status 130, one line, no leftovers, and the run goes on to the same end."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from clearhead.cli.main import run
from clearhead.train import checkpoint, prepare
from clearhead.train.trainer import Trainer

SLOW = """
import sys, time
from clearhead.cli.main import main
from clearhead.train.trainer import Trainer

plain = Trainer._update

def slow(self, batches, after, state):
    plain(self, batches, after, state)
    time.sleep(0.1)

Trainer._update = slow
main()
"""
DYING = """
import os, signal
from clearhead.cli.main import main
from clearhead.train import checkpoint

plain = checkpoint.write_json

def dies(path, value):
    if value["update"] == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    plain(path, value)

checkpoint.write_json = dies
main()
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def goes_on_to_the_same_end(call, recipe: Path, folder: Path, finished: Path) -> None:
    done = call("train", recipe, "--out", folder, "--resume")
    assert done.status == 0, done.err
    assert (folder / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    assert updates(folder) == updates(finished)
    names = sorted(each.name for each in (folder / "checkpoints").iterdir())
    assert names == sorted(each.name for each in (finished / "checkpoints").iterdir())
    assert not list(folder.rglob(".*"))


def updates(folder: Path) -> list[tuple[str, int, float]]:
    lines = [json.loads(each) for each in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(each["kind"], each["update"], each["loss"]) for each in lines]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_training_after_its_update(call, recipe, tmp_path, finished, number):
    process = start(SLOW, "train", recipe, "--out", tmp_path / "run")
    deadline = time.monotonic() + 300
    while not (tmp_path / "run/checkpoints/update-00000005").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("stopped after update ")
    assert err.splitlines()[-1].endswith("; continue with --resume")
    goes_on_to_the_same_end(call, recipe, tmp_path / "run", finished)


def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(call, recipe, tmp_path, finished):
    process = start(DYING, "train", recipe, "--out", tmp_path / "run")
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert list((tmp_path / "run/checkpoints").glob(".update-00000015.*.tmp"))
    goes_on_to_the_same_end(call, recipe, tmp_path / "run", finished)


class Killed(BaseException):
    """Like a kill: nothing in the code under test expects it."""


def test_a_run_killed_while_it_deletes_a_checkpoint_still_averages_whole_ones(
    call, recipe, tmp_path, finished, monkeypatch
):
    plain = checkpoint.shutil.rmtree

    def half(path, ignore_errors=False):
        if "update-00000005" in str(path):
            (Path(path) / "model.safetensors").unlink()
            raise Killed
        plain(path, ignore_errors=ignore_errors)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.shutil, "rmtree", half)
        assert call("train", recipe, "--out", tmp_path / "run").status == 1
    goes_on_to_the_same_end(call, recipe, tmp_path / "run", finished)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["train_tokenizer", "_encoded"])
def test_an_interrupted_preparation_leaves_nothing_half_done(
    call, recipe, tmp_path, finished, monkeypatch, stage, number
):
    plain = getattr(prepare, stage)

    def interrupted(*arguments):
        result = plain(*arguments)
        if stage == "_encoded":
            yield from (row for _, row in zip(range(3), result, strict=False))
        signal.raise_signal(number)

    def tokenizer(*arguments):
        list(interrupted(*arguments))

    with monkeypatch.context() as patch:
        patch.setattr(prepare, stage, interrupted if stage == "_encoded" else tokenizer)
        done = call("train", recipe, "--out", tmp_path / "run")
    assert done.status == 130
    assert done.complaint == "clearhead: interrupted; the same command with --resume continues"
    assert not (tmp_path / "run/data").exists()
    assert not list((tmp_path / "run").glob(".*"))
    goes_on_to_the_same_end(call, recipe, tmp_path / "run", finished)


def test_an_interrupted_tokenizer_training_keeps_the_old_file(call, recipe, tmp_path, monkeypatch):
    (tmp_path / "t.json").write_text("old")

    def lines(path):
        yield 1, "abc"
        signal.raise_signal(signal.SIGINT)
        yield 2, "def"

    monkeypatch.setattr("clearhead.data.sources.read_lines", lines)
    done = call("tokenizer", "train", recipe.parent / "train.a", "--out", tmp_path / "t.json", "--kind", "char")
    assert (done.status, done.complaint) == (130, "clearhead: interrupted")
    assert (tmp_path / "t.json").read_text() == "old"


def test_an_interrupted_translation_is_one_line(call, finished, monkeypatch):
    def load(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("clearhead.apply.load", load)
    assert call("translate", finished, "abc").status == 130


def test_signals_are_as_before_when_a_command_has_ended(call):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    call("data", "list")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.fixture(scope="session")
def stopped(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped after update 12, for copying."""
    plain, folder = Trainer._update, tmp_path_factory.mktemp("stopped") / "run"

    def update_and_stop(self, batches, after, state):
        plain(self, batches, after, state)
        if state.update == 12:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update", update_and_stop)
        assert run(["train", str(finished.parent / "tiny.yaml"), "--out", str(folder)]) == 130
    return folder


@pytest.mark.parametrize("tail", [b'{"kind": "train", "upd', b"\xff\x00", b"[1]\n7\nnull\n", b'{"update": "x"}\n'])
def test_a_truncated_record_is_mended(call, tmp_path, finished, stopped, tail):
    shutil.copytree(stopped, tmp_path / "run")
    record = tmp_path / "run/metrics.jsonl"
    record.write_bytes(record.read_bytes() + tail)
    goes_on_to_the_same_end(call, finished.parent / "tiny.yaml", tmp_path / "run", finished)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"])
@pytest.mark.parametrize("harm", ["missing", "truncated", "other"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(call, tmp_path, finished, stopped, name, harm):
    recipe = finished.parent / "tiny.yaml"
    shutil.copytree(stopped, tmp_path / "run")
    newest = tmp_path / "run/checkpoints/update-00000012"
    content = (newest / name).read_bytes()
    (newest / name).unlink()
    if harm != "missing":
        other = b'{"update": 3, "unknown": 1}' if name == "state.json" else save({"0.mine": torch.ones(3)})
        (newest / name).write_bytes(content[: len(content) // 2] if harm == "truncated" else other)
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    done = call("train", recipe, "--out", tmp_path / "run", "--resume")
    assert done.status == 1
    assert f"delete the folder {newest}" in done.complaint
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before
    if harm != "missing":
        return
    shutil.rmtree(newest)
    goes_on_to_the_same_end(call, recipe, tmp_path / "run", finished)
