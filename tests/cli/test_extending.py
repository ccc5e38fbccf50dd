"""docs/extending.md is executed: its file is written down, trained with, verified and used; nothing else is edited."""

import json
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import clearhead
from clearhead.core.registry import Registry
from clearhead.model.position import POSITIONS

PAGE = (Path(__file__).parents[2] / "docs/extending.md").read_text(encoding="utf-8")
FILE, RECIPE = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[1] for kind in ("python", "yaml"))
LINES = [each for each in FILE.splitlines() if each.strip()]


@pytest.fixture(autouse=True)
def my_position(tmp_path, monkeypatch):
    """The file of the page in the current folder; what it registers is forgotten after the test."""
    (tmp_path / "my_position.py").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(POSITIONS, "_parts", dict(POSITIONS._parts))
    yield
    forget()


def forget() -> None:
    for name in [each for each in sys.modules if each.startswith("clearhead_plugin_")]:
        del sys.modules[name]


def test_the_file_is_as_short_as_it_says():
    assert len(LINES) <= 20


def test_a_part_of_ones_own_is_trained_saved_verified_and_used(call, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(POSITIONS, "_parts", dict(builtin := POSITIONS._parts))
    recipe.write_text(recipe.read_text().replace("model: {", "model: {position: {kind: logarithmic, slope: 0.5}, "))
    mine = recipe.read_text() + RECIPE.splitlines()[0] + "\n"
    recipe.write_text(mine)
    done = call("train", recipe, "train.updates=6", "--out", tmp_path / "run")
    assert (done.status, done.out) == (0, ""), done.err
    weights = clearhead.load(tmp_path / "run").bundle.model.encoder.embedding_sum.position.slope
    assert weights.shape == (2, 1, 1)
    assert not torch.equal(weights, torch.full_like(weights, 0.5))  # it has learned

    checks = json.loads(call("verify", tmp_path / "run", "--json").out.splitlines()[-1])
    assert checks["failed"] == 0
    assert checks["passed"] == 10

    forget()  # a new process
    monkeypatch.setattr(POSITIONS, "_parts", builtin)
    refused = call("translate", tmp_path / "run", "abc").complaint
    assert "no position of kind 'logarithmic'" in refused
    assert re.search(r"trained with my_position\.py \(SHA-256 [0-9a-f]{12}\.\.\.\)", refused)
    assert "clearhead --plugin FILE" in refused
    monkeypatch.setattr(POSITIONS, "_parts", dict(builtin))
    assert call("--plugin", "my_position.py", "translate", tmp_path / "run", "abc").status == 0


def test_the_overrides_of_the_page_train_the_same_part(call, recipe, tmp_path):
    line = re.search(r"clearhead train demo (.*) --out", PAGE)[1]
    overrides = [each.strip('"') for each in line.split()]
    done = call("info", recipe, *overrides, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["position"] == {"kind": "logarithmic", "slope": 0.5}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.position={kind: logarithmic, slop: 1}", "has no option 'slop'; .*did you mean 'slope'"),
        ("model.position={kind: logarithmic, slope: steep}", "option logarithmic.slope: .*number"),
        ("model.position=logaritmic", "did you mean 'logarithmic'"),
        ("model.attention=linear", "linear"),
    ],
)
def test_its_options_are_checked_as_those_of_any_part(call, recipe, override, message):
    setting = ["plugins=[my_position.py]", "model.position=logarithmic", override]
    assert re.search(message, call("info", recipe, *setting).complaint)


def test_a_plugin_that_is_not_there_is_told_with_its_place(call, recipe):
    complaint = call("info", recipe, "plugins=[absent.py]").complaint
    assert "override plugins" in complaint
    assert "absent.py" in complaint


def test_the_table_of_families_is_true():
    rows = re.findall(r"\| `(clearhead\.[a-z_.]+)\.([A-Z]+)` \|", PAGE)
    assert len(rows) >= 10
    for module, name in rows:
        assert isinstance(getattr(import_module(module), name), Registry)
