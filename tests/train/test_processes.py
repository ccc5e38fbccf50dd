"""Several processes train as one: the same loss curve, the same stop, the same continuation."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from sameness import record, same_run

from clearhead.bundle.weights import read_weights
from clearhead.core.errors import ConfigError, TrainingError
from clearhead.train import run, workers
from clearhead.train.workers import process_count

run_room = importlib.import_module("clearhead.train.run")  # the name clearhead.train.run is the function
KILLER = """
import os, pathlib, sys, time
while not list(pathlib.Path(sys.argv[1]).glob("update-*")):
    time.sleep(0.1)
os.kill(int(sys.argv[2]), 9)
"""
PLAN = ("train.accumulate=2", "train.validate_every=6")


def test_two_processes_train_as_one(tiny, tmp_path):
    run(tiny(*PLAN, "model.dropout=0.0", "train.processes=1"), tmp_path / "one")
    run(tiny(*PLAN, "model.dropout=0.0", "train.processes=2"), tmp_path / "two")
    for one, two in zip(record(tmp_path / "one"), record(tmp_path / "two"), strict=True):
        assert one.pop("kind") == two.pop("kind")
        assert one.pop("samples", None) == two.pop("samples", None)
        assert one == pytest.approx(two, rel=1e-6, abs=1e-6)
    one, two = (read_weights(tmp_path / each / "model.safetensors") for each in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=1e-6)


def test_two_processes_stopped_and_resumed_equal_two_uninterrupted_ones(tiny, tmp_path):
    recipe = tiny(*PLAN, "train.processes=2", "train.updates=80", "train.checkpoint_every=20")
    run(recipe, tmp_path / "whole")
    (tmp_path / "recipe.yaml").write_text((tmp_path / "whole/recipe.yaml").read_text())
    command = [
        sys.executable,
        "-m",
        "clearhead",
        "train",
        str(tmp_path / "recipe.yaml"),
        "--out",
        str(tmp_path / "parts"),
    ]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    metrics = tmp_path / "parts/metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()):
        time.sleep(0.02)
        assert first.poll() is None, first.stderr.read().decode()
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=300) == 130
    last = max(json.loads(each)["update"] for each in metrics.read_text().splitlines())
    assert last < 80
    assert run(recipe, tmp_path / "parts", resume=True) is not None
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_signal_to_one_process_in_the_middle_of_a_validation_stops_both(tiny, tmp_path, monkeypatch):
    recipe = tiny(*PLAN, "train.processes=2", "train.updates=40", "train.checkpoint_every=20")
    run(recipe, tmp_path / "whole")
    plain = run_room.validator

    def signalling(task, machine):
        validate = plain(task, machine)

        def signalled(learner):
            os.kill(os.getpid(), signal.SIGTERM)
            return validate(learner)

        return signalled

    with monkeypatch.context() as patch:
        patch.setattr(run_room, "validator", signalling)
        assert run(recipe, tmp_path / "parts") is None
    assert run(recipe, tmp_path / "parts", resume=True) is not None
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_worker_that_dies_ends_the_run_with_one_line_and_a_state_to_go_on_from(tiny, tmp_path, monkeypatch):
    plain = workers.subprocess.Popen

    def mortal(command, **options):
        process = plain(command, **options)
        plain([sys.executable, "-c", KILLER, str(tmp_path / "run/checkpoints"), str(process.pid)])
        return process

    recipe = tiny(*PLAN, "train.processes=2", "train.updates=100000", "train.checkpoint_every=20")
    with monkeypatch.context() as patch:
        patch.setattr(workers.subprocess, "Popen", mortal)
        with pytest.raises(TrainingError, match=r"worker process 1 ended.*--resume"):
            run(recipe, tmp_path / "run")
    assert list((tmp_path / "run/checkpoints").glob("update-*"))
    assert "WORLD_SIZE" not in os.environ


def test_batches_that_do_not_divide_among_processes_are_refused(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"train.accumulate.*3 batches, 2 processes"):
        run(tiny("train.accumulate=3", "train.processes=2"), tmp_path / "run")


def test_on_a_cpu_each_core_gets_a_process_if_there_are_batches_for_it(tiny, monkeypatch):
    monkeypatch.setattr("clearhead.train.workers.cores", lambda: 4)
    cpu = torch.device("cpu")
    counts = {
        each: process_count(tiny(f"train.accumulate={each}", "train.threads=0"), cpu) for each in (1, 2, 3, 4, 6, 8)
    }
    assert counts == {1: 1, 2: 2, 3: 1, 4: 4, 6: 2, 8: 4}
    assert process_count(tiny("train.accumulate=4", "train.threads=1"), cpu) == 1


def test_torchrun_starts_the_same_run(tiny, tmp_path):
    run(tiny(*PLAN, "train.processes=2"), tmp_path / "own")
    (tmp_path / "recipe.yaml").write_text((tmp_path / "own/recipe.yaml").read_text())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "clearhead", "train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]
    subprocess.run(command, check=True, timeout=600, capture_output=True)
    same_run(tmp_path / "own", tmp_path / "run")
