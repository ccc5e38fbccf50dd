"""When two runs are the same: every line of the record but its clocks, every weight bit for bit."""

import json
from pathlib import Path

import torch

from clearhead.bundle.weights import read_weights

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
