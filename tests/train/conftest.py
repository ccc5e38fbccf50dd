"""A tiny translation task: the target is the source backwards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clearhead.core.recipe import read_recipe, write_recipe
from clearhead.train import Recipe


def write_corpus(folder: Path, count: int = 120) -> None:
    """Parallel files of reversed letter strings, the same every time."""
    random = np.random.default_rng(7)
    for split, number in (("train", count), ("valid", 12)):
        lines = ["".join(random.choice(list("abcdef"), random.integers(2, 7))) for _ in range(number)]
        (folder / f"{split}.a").write_text("\n".join(lines) + "\n")
        (folder / f"{split}.b").write_text("\n".join(each[::-1] for each in lines) + "\n")


@pytest.fixture
def tiny(tmp_path: Path) -> Any:
    """A function that makes a recipe on a tiny corpus in `tmp_path`, with overrides."""
    write_corpus(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"""
seed: 3
tokenizer: {{source: char, target: char}}
data:
  folder: {tmp_path}
  train: {{kind: parallel, source: train.a, target: train.b}}
  valid: {{kind: parallel, source: valid.a, target: valid.b}}
model: {{encoder_layers: 1, decoder_layers: 1, d_model: 16, heads: 2, d_ff: 32, dropout: 0.1, tie: output}}
train:
  updates: 12
  batch_tokens: 120
  learning_rate: 0.01
  schedule: {{kind: inverse_sqrt, warmup: 4}}
  precision: float32
  threads: 1
  log_every: 4
  validate_every: 6
  checkpoint_every: 5
  keep: 2
search: {{beams: 2}}
"""
    )

    def recipe(*overrides: str) -> Recipe:
        return read_recipe(path, overrides, Recipe)

    recipe.path = path  # type: ignore[attr-defined]
    recipe.write = write_recipe  # type: ignore[attr-defined]
    return recipe
