"""Golden loss curves: a refactor that changes what is learned, or in which order, shows here."""

import json

import pytest

from clearhead.train import run

# nats per token, label-smoothed, of updates 1-4, 5-8, ... on the tiny corpus of conftest.py; a new value needs a reason
GOLDEN = {
    "translation": [2.57329, 2.13188, 2.03249]
}  # 2026-11-21: without dropout, whose masks are others where a compiler is


@pytest.mark.parametrize("objective", GOLDEN)
def test_the_loss_curve_is_the_one_we_know(objective, tiny, tmp_path):
    run(tiny(f"objective={objective}", "model.dropout=0"), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    curve = [line["loss"] for line in lines if line["kind"] == "train"]
    assert curve == pytest.approx(GOLDEN[objective], abs=2e-4)
