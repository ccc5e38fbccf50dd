"""Learning from a teacher: the formula, a whole run, and teachers that do not go with it."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from sameness import same_run, stop_after

from clearhead.bundle import Bundle
from clearhead.bundle.weights import read_weights
from clearhead.core.errors import BundleError, CheckpointError, ConfigError, DataError, ModelError
from clearhead.core.registry import Choice
from clearhead.data.batches import translation_batch
from clearhead.model import ModelConfig, Transformer
from clearhead.train import run
from clearhead.train.checkpoint import State
from clearhead.train.objectives import OBJECTIVES
from clearhead.train.objectives.distillation import Distillation
from clearhead.train.trainer import Trainer

SIZES = {"encoder_layers": 1, "decoder_layers": 1, "heads": 2, "d_ff": 20, "source_vocab": 23, "target_vocab": 23}


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr("clearhead.train.tasks.translation.write_report", lambda *given, **options: None)


@pytest.fixture
def teacher(tiny, tmp_path):
    """The folder of a trained teacher."""
    run(tiny("model.d_model=24"), tmp_path / "teacher")
    return tmp_path / "teacher"


def batch():
    return translation_batch([[5, 6, 7], [8], [9, 10]], [[11, 12], [13, 14, 15, 16], [17]], pad=0, bos=1, eos=2)


@pytest.mark.parametrize("norm", ["layernorm", "batchnorm"])
@pytest.mark.parametrize("bias", [False, True])
def test_the_loss_is_cross_entropy_against_both(norm, bias):
    torch.manual_seed(3)
    head = {"kind": "lm", "bias": bias}
    student = Transformer(ModelConfig(**SIZES, d_model=12, dropout=0.0, head=head, tie="none")).double()
    older = Transformer(ModelConfig(**SIZES, d_model=16, dropout=0.5, head=head, tie="none", norm=norm)).double().eval()
    objective: Distillation = OBJECTIVES.build(Choice(kind="distillation", options={"teacher": "x", "share": 0.4}))
    objective.bundle, given = SimpleNamespace(model=older), batch()
    loss = objective(student, given)
    read = {"source_valid": given.source_valid, "target_valid": given.counted}
    own, theirs = (each.logits(each(given.source, given.target, **read))[given.counted] for each in (student, older))
    sharp = 0.9 * F.one_hot(given.labels[given.counted], 23).double() + 0.1 / 23
    expected = F.cross_entropy(own, 0.6 * sharp + 0.4 * theirs.softmax(-1), reduction="sum")
    torch.testing.assert_close(loss.value, expected, rtol=0, atol=1e-10)
    assert loss.count == int(given.counted.sum())
    loss.value.backward()
    assert all(each.grad is None for each in older.parameters())


def test_a_student_is_trained_and_its_teacher_is_not(tiny, teacher, tmp_path, monkeypatch):
    before = read_weights(teacher / "model.safetensors")
    recipe = tiny("objective.kind=distillation", f"objective.teacher={teacher}", "train.accumulate=2")
    assert run(recipe, tmp_path / "student") is not None
    after = read_weights(teacher / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert Bundle.load(tmp_path / "student").model.config.d_model == 16
    run(recipe, tmp_path / "again")
    same_run(tmp_path / "student", tmp_path / "again")


def test_a_student_begins_as_it_would_without_a_teacher(tiny, teacher, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(Trainer, "fit", lambda self: begun.append(self._weights()) or State(update=0, updates=1))
    for name, settings in {"plain": (), "student": taught_by(teacher)}.items():
        assert run(tiny(*settings, "train.processes=1"), tmp_path / name) is None
    assert all(torch.equal(begun[0][name], begun[1][name]) for name in begun[0])


def taught_by(folder):
    return "objective.kind=distillation", f"objective.teacher={folder}"


def test_a_mistaken_teacher_leaves_the_folder_free_for_the_right_one(tiny, teacher, tmp_path):
    out = tmp_path / "student"
    with pytest.raises(BundleError):
        run(tiny(*taught_by(tmp_path / "absent")), out)
    with pytest.raises(ModelError, match="its own teacher"):
        run(tiny(*taught_by(out)), out)
    assert run(tiny(*taught_by(teacher)), out) is not None
    assert Bundle.load(out).history["teacher_sha256"] == (out / "teacher.sha256").read_text().strip()


def test_a_run_goes_on_with_the_teacher_that_it_began_with(tiny, teacher, tmp_path, monkeypatch):
    recipe, weights = tiny(*taught_by(teacher)), teacher / "model.safetensors"
    run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        assert run(recipe, tmp_path / "parts") is None
    kept = weights.read_bytes()
    run(tiny("model.d_model=24", "seed=9"), tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="not the one this run began with"):
        run(recipe, tmp_path / "parts", resume=True)
    weights.write_bytes(kept)
    run(recipe, tmp_path / "parts", resume=True)
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_teachers_that_do_not_go_with_the_run_are_refused(tiny, teacher, tmp_path):
    with pytest.raises(ConfigError, match="teacher"):
        tiny("objective.kind=distillation")
    with pytest.raises(ModelError, match="other tokenizers"):
        run(
            tiny(*taught_by(teacher), "tokenizer={source: char, target: {kind: byte_bpe, vocab_size: 300}}"),
            tmp_path / "a",
        )
    run(tiny("model.position=learned", "model.length=8"), tmp_path / "short")
    for name, line in {"train.a": "abcdefabc", "train.b": "cbafedcba"}.items():
        (tmp_path / name).write_text((tmp_path / name).read_text() + line + "\n")
    with pytest.raises(DataError, match="longer than the model can read"):
        run(tiny(*taught_by(tmp_path / "short")), tmp_path / "b")
