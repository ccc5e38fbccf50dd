"""A tiny translation task: the target is the source backwards."""

from pathlib import Path
from typing import Any

import pytest

from clearhead.core.recipe import read_recipe, write_recipe
from clearhead.train import Recipe
from letters import write_letters


@pytest.fixture
def tiny(tmp_path: Path) -> Any:
    """A function that makes a recipe on a tiny corpus in `tmp_path`, with overrides."""
    write_letters(tmp_path, train=120, valid=12)
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
