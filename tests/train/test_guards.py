"""What stops a run, what it says, and what it keeps; how far an update moves the weights."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from sameness import record

from clearhead.bundle.weights import read_weights
from clearhead.core.errors import StorageError, TrainingError
from clearhead.core.processes import World
from clearhead.data.buckets import Place
from clearhead.model import ModelConfig, Transformer
from clearhead.model.inventory import freeze, inventory
from clearhead.train import run
from clearhead.train.checkpoint import Checkpoints
from clearhead.train.guards import batch_name, refuse_gradients, refuse_loss, update_ratios
from clearhead.train.objectives.base import Loss
from clearhead.train.objectives.translation import Translation
from clearhead.train.parallel import Replicate
from clearhead.train.trainer import Trainer

ALONE = Replicate(World())


def good_weights(folder, update: int) -> bool:
    newest = sorted((folder / "checkpoints").glob("update-*"))[-1]
    return newest.name == f"update-{update:08d}" and all(
        each.isfinite().all() for each in read_weights(newest / "model.safetensors").values()
    )


def spoiled(monkeypatch, call: int, factor: float):
    """The loss of that call of the objective, times a factor."""
    plain, calls = Translation.__call__, [0]

    def objective(self, model, batch):
        loss = plain(self, model, batch)
        if not model.training:
            return loss
        calls[0] += 1
        return Loss(loss.value * factor, loss.count, loss.metrics) if calls[0] == call else loss

    monkeypatch.setattr(Translation, "__call__", objective)


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_told_with_its_batch(tiny, tmp_path, monkeypatch, factor):
    spoiled(monkeypatch, 6, factor)
    plan = ("train.accumulate=2", "train.checkpoint_every=2", "train.validate_every=100", "train.batch_tokens=30")
    with pytest.raises(TrainingError, match=rf"loss is not finite at update 3; found {factor} in batch 6 of epoch 0"):
        run(tiny(*plan), tmp_path / "run")
    assert good_weights(tmp_path / "run", 2)


def test_gradients_that_are_not_finite_are_told_with_their_batches(tiny, tmp_path, monkeypatch):
    plain = Trainer._clip

    def clip(self):
        if self.optimizer.state and self.optimizer.state_dict()["state"][0]["step"] == 4:
            self.model.output.grad[0] = math.inf
        return plain(self)

    plan = ("train.accumulate=2", "train.checkpoint_every=2", "train.validate_every=100", "train.batch_tokens=30")
    monkeypatch.setattr(Trainer, "_clip", clip)
    with pytest.raises(TrainingError, match=r"gradients are not finite at update 5.*batch 9 of epoch 0 to batch 10"):
        run(tiny(*plan), tmp_path / "run")
    assert good_weights(tmp_path / "run", 4)


def test_weights_that_are_not_finite_do_not_replace_good_ones(tiny, tmp_path, monkeypatch):
    plain = Trainer._step

    def step(self, state):
        plain(self, state)
        if state.update == 4:
            with torch.no_grad():
                self.model.output[0, 0] = math.nan

    monkeypatch.setattr(Trainer, "_step", step)
    with pytest.raises(TrainingError, match=r"weights are not finite after update 4"):
        run(tiny("train.checkpoint_every=2", "train.validate_every=100"), tmp_path / "run")
    assert good_weights(tmp_path / "run", 2)


def test_batches_are_counted_from_one_and_named_by_their_epoch():
    assert [batch_name(each, 3, Place(2, 5)) for each in range(3)] == [f"batch {each} of epoch 2" for each in (3, 4, 5)]
    assert batch_name(0, 3, Place(2, 1)) == "the last batches of epoch 1"
    refuse_gradients(1.0, 1, 2, Place(0, 2))
    with pytest.raises(TrainingError, match=r"found nan in batch 4 of epoch 0"):
        refuse_loss([1.0, math.nan], 2, Place(0, 4), World())


def test_disk_space_is_looked_at_before_each_checkpoint_and_the_best_weights(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1, every=1)
    needed = 1000 * 4 + (1 << 20)
    for free in (needed, needed - 1):
        monkeypatch.setattr("shutil.disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        if free == needed:
            checkpoints.save_best({"a": torch.zeros(1000)})
        else:
            with pytest.raises(StorageError, match="not enough disk space for a checkpoint"):
                checkpoints.save_best({"a": torch.ones(1000)})
    assert not read_weights(tmp_path / "best.safetensors")["a"].any()


def test_the_update_ratio_is_the_length_of_the_step_over_that_of_the_weights():
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 6, "heads": 2, "d_ff": 5, "tie": "output"}
    model = Transformer(ModelConfig(**sizes, source_vocab=23, target_vocab=23))
    freeze(model, ["encoder.*.attention"])
    with torch.no_grad():
        for each in model.parameters():
            each.normal_()

    def step():
        with torch.no_grad():
            for name, each in model.named_parameters():
                each.mul_(1.002 if name.startswith(("decoder", "output")) else 1.5)

    ratios = update_ratios(model, step, ALONE)
    assert ratios.keys() == {name for name, group in inventory(model).items() if group.trained}
    for name, ratio in ratios.items():
        assert ratio == pytest.approx(0.002 if name.startswith("decoder") else 0.5, rel=1e-3)


def test_update_ratios_stand_in_every_log_line(tiny, tmp_path):
    run(tiny("train.metric=loss"), tmp_path / "run")
    lines = [line for line in record(tmp_path / "run") if line["kind"] == "train"]
    assert [line["update"] for line in lines] == [4, 8, 12]
    for line in lines:
        ratios = {name: each for name, each in line.items() if name.startswith("update_ratio/")}
        assert "update_ratio/decoder.*.attention" in ratios
        assert all(0 < each < 1 for each in ratios.values()), json.dumps(line)


def test_no_update_is_no_division_by_nothing():
    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    assert set(update_ratios(model, lambda: None, ALONE).values()) == {0.0}
