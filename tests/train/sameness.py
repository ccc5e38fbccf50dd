"""When two runs are the same: every line of the record but its clocks, every weight bit for bit. How to stop one."""

import json
import signal
from pathlib import Path

import pytest
import torch

from clearhead.bundle.weights import read_weights
from clearhead.train.trainer import Trainer

CLOCKS = ("seconds", "tokens_per_second")


def record(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]


def same_run(left: Path, right: Path) -> None:
    assert record(left) == record(right)
    one, other = (read_weights(each / "model.safetensors") for each in (left, right))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def stop_after(monkeypatch: pytest.MonkeyPatch, updates: int) -> None:
    """Make the run behave as if a signal came during that update."""
    plain = Trainer._update

    def update(self, batches, after, state):
        plain(self, batches, after, state)
        if state.update == updates:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_update", update)
