"""One tiny trained model for all tests of the command line, and a way to call a command as its user does."""

import io
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from clearhead.cli.main import run
from letters import write_letters

FILES = ("config.json", "model.safetensors", "source_tokenizer.json", "target_tokenizer.json", "generation_config.json")
RECIPE = """
seed: 3
tokenizer: {{source: char, target: char}}
data:
  folder: {folder}
  train: {{kind: parallel, source: train.a, target: train.b}}
  valid: {{kind: parallel, source: valid.a, target: valid.b}}
model: {{encoder_layers: 1, decoder_layers: 1, d_model: 16, heads: 2, d_ff: 32, length: 64, tie: output}}
train:
  updates: 30
  batch_tokens: 120
  learning_rate: 0.01
  schedule: {{kind: inverse_sqrt, warmup: 4}}
  precision: float32
  device: cpu
  threads: 1
  log_every: 1
  validate_every: 15
  checkpoint_every: 5
  keep: 2
  metric: loss
search: {{beams: 2, length_extra: 5}}
"""


def write_corpus(folder: Path) -> Path:
    """A tiny corpus; returns the recipe that learns it."""
    write_letters(folder, train=60, valid=5)
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE.format(folder=folder))
    return recipe


@dataclass(frozen=True)
class Call:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on standard error; nothing on standard output, and no traceback."""
        assert self.status in (1, 2, 130), self
        lines = self.err.splitlines()
        assert lines, self
        assert sum(each.startswith("clearhead") for each in lines) == 1, self.err
        assert lines[-1].startswith("clearhead"), self.err
        assert "Traceback" not in self.err
        return lines[-1]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Call]:
    """A function from arguments and bytes of standard input to what the command left behind."""

    def clearhead(*arguments: object, stdin: bytes = b"", debug: bool = False) -> Call:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        status = run([str(each) for each in arguments], debug=debug)
        return Call(status, *capsys.readouterr())

    return clearhead


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe and its corpus in a folder of their own."""
    (tmp_path / "corpus").mkdir()
    return write_corpus(tmp_path / "corpus")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, for reading only."""
    folder = tmp_path_factory.mktemp("finished")
    assert run(["train", str(write_corpus(folder)), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def bundle(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished model that a test may harm."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in FILES:
        shutil.copy(finished / name, folder / name)
    return folder
