"""Learning from a teacher: the formula, a whole run, and teachers that do not go with it."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sameness import same_run, stop_after

from clearhead.bundle import Bundle
from clearhead.bundle.weights import read_weights
from clearhead.core.errors import BundleError, ConfigError, DataError, ModelError, StorageError, UsageError
from clearhead.core.registry import Choice
from clearhead.data.batches import translation_batch
from clearhead.data.store import write_stores
from clearhead.model import ModelConfig, Transformer
from clearhead.train import run
from clearhead.train.checkpoint import State
from clearhead.train.forecast import forecast
from clearhead.train.objectives import OBJECTIVES, taught
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


PAIRS = [[5, 6, 7], [8], [9, 10], []], [[11, 12], [13, 14, 15, 16], [17], [18]]


def batch(*rows):
    sides = ([np.array(side[row], dtype=np.int64) for row in rows] for side in PAIRS)
    return translation_batch(*sides, pad=0, bos=1, eos=2, rows=np.array(rows))


@pytest.fixture
def stores(tmp_path):
    return write_stores(tmp_path / "data", 2, zip(*PAIRS, strict=True), 23)


class Special:
    """As much of a tokenizer as asking needs."""

    vocab_size = 23

    def need(self, name):
        return ["pad", "bos", "eos"].index(name)


@pytest.mark.parametrize("norm", ["layernorm", "batchnorm"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_the_loss_is_cross_entropy_against_both(norm, bias, count, stores, tmp_path, monkeypatch):
    monkeypatch.setattr(taught, "CHUNK", 3)
    monkeypatch.setattr(taught, "BUDGET", 5)
    torch.manual_seed(3)
    head = {"kind": "lm", "bias": bias}
    student = Transformer(ModelConfig(**SIZES, d_model=12, dropout=0.0, head=head, tie="none"))
    config = ModelConfig(**SIZES, d_model=16, dropout=0.5, head=head, tie="none", norm=norm)
    older = [Transformer(config).eval() for _ in range(count)]
    objective = OBJECTIVES.build(Choice(kind="distillation", options={"teacher": "x", "share": 0.4}))
    objective.kept = tmp_path / "taught"
    about = {"teacher_sha256": ["1"]}
    device = torch.device("cpu")
    taught.write_taught(objective.kept, older, stores, Special(), device=device, about=about)
    objective.prepare(stores, device, rehearsal=False)
    assert objective.history() == about
    given = batch(3, 1, 0, 2)
    loss = objective(student, given)
    read = {"source_valid": given.source_valid, "target_valid": given.counted}
    own, *theirs = (each.logits(each(given.source, given.target, **read))[given.counted] for each in (student, *older))
    product = torch.stack([each.softmax(-1) for each in theirs]).prod(0) ** (1 / count)
    soft = product / product.sum(-1, keepdim=True)  # the geometric mean
    sharp = 0.9 * F.one_hot(given.labels[given.counted], 23) + 0.1 / 23
    expected = F.cross_entropy(own, 0.6 * sharp + 0.4 * soft, reduction="sum")
    torch.testing.assert_close(loss.value, expected, rtol=1e-4, atol=0)  # features are kept as float16
    assert loss.count == int(given.counted.sum())
    loss.value.backward()
    assert all(each.grad is None for model in older for each in model.parameters())


def test_what_was_taught_is_found_again_or_said_to_be_damaged(stores, tmp_path):
    older = [Transformer(ModelConfig(**SIZES, d_model=16)).eval()]
    folder = tmp_path / "taught"
    taught.write_taught(folder, older, stores, Special(), device=torch.device("cpu"), about={})
    found = taught.Taught(folder)
    assert found.of(np.array([1])).shape == (5, 16)
    assert found.of(np.array([1, 0])).shape == (8, 16)
    matrix = older[0].head.matrix.detach()
    torch.testing.assert_close(found.matrix, matrix - matrix.mean(dim=0))
    for name in ("features.bin", "matrix.bin"):
        whole = (folder / name).read_bytes()
        for wrong in (whole[:-1], whole[:-2], b""):
            (folder / name).write_bytes(wrong)
            with pytest.raises(DataError, match="delete this folder and --resume"):
                taught.Taught(folder)
        (folder / name).write_bytes(whole)
    (folder / "taught.json").write_text("{}")
    with pytest.raises(DataError, match=r"taught\.json"):
        taught.Taught(folder)


@pytest.mark.parametrize("room", [1, 16 * 5, 16 * 6, 1 << 20])
def test_what_is_held_at_a_time_changes_nothing(room, stores, tmp_path, monkeypatch):
    monkeypatch.setattr(taught, "ROOM", room)
    sizes = []
    asked = taught._asked
    monkeypatch.setattr(taught, "_asked", lambda *given: sizes.append(len(given[1][0])) or asked(*given))
    older = [Transformer(ModelConfig(**SIZES, d_model=16)).eval()]
    taught.write_taught(tmp_path / "taught", older, stores, Special(), device=torch.device("cpu"), about={})
    found = taught.Taught(tmp_path / "taught")
    assert sizes == {1: [1, 1, 1, 1], 80: [1, 1, 2], 96: [1, 1, 2], 1 << 20: [4]}[room]
    for row in range(4):
        sides = ([np.array(side[row], dtype=np.int64)] for side in PAIRS)
        each = translation_batch(*sides, pad=0, bos=1, eos=2)
        said = older[0](each.source, each.target)[0]
        torch.testing.assert_close(found.of(np.array([row])).float(), said, atol=2e-3, rtol=2e-3)


def test_a_teacher_without_a_matrix_is_refused(tiny, tmp_path):
    run(tiny(), tmp_path / "teacher")
    bundle = Bundle.load(tmp_path / "teacher")
    bundle.model.head.__class__.linear = False
    try:
        with pytest.raises(ModelError, match="no linear map"):
            run(tiny(*taught_by(tmp_path / "teacher")), tmp_path / "student")
    finally:
        bundle.model.head.__class__.linear = True


def test_features_that_do_not_fit_are_refused(stores, tmp_path):
    model = Transformer(ModelConfig(**SIZES, d_model=16)).eval()
    with torch.no_grad():
        for norm in (each for name, each in model.named_parameters() if "norm" in name):
            norm.mul_(1e6)
    with pytest.raises(ModelError, match="too large for float16"):
        taught.write_taught(tmp_path / "it", [model], stores, Special(), device=torch.device("cpu"), about={})
    assert not (tmp_path / "it").exists()


def test_answers_about_other_texts_are_refused(tiny, teacher, tmp_path):
    recipe, out = tiny(*taught_by(teacher)), tmp_path / "student"
    run(recipe, out)
    for name in ("data", "checkpoints"):
        shutil.rmtree(out / name)
    for name in ("train.a", "train.b"):
        (tmp_path / name).write_text("\n".join((tmp_path / name).read_text().splitlines()[3:]) + "\n")
    with pytest.raises(DataError, match="answers about other texts"):
        run(recipe, out, resume=True)
    with pytest.raises(UsageError, match="already holds a run"):
        run(recipe, out)


def test_a_dry_run_asks_nobody_and_counts_the_room(tiny, teacher, tmp_path, monkeypatch):
    plain = forecast(tiny(), tmp_path / "out")
    monkeypatch.setattr(taught, "_asked", lambda *_: pytest.fail("asked"))
    found = forecast(tiny(*taught_by(teacher)), tmp_path / "out")
    labels = sum(len(line) + 1 for line in (tmp_path / "train.b").read_text().splitlines())
    words = Bundle.load(teacher).target.vocab_size
    assert found.disk_bytes - plain.disk_bytes == pytest.approx(labels * 24 * 2 + words * 24 * 4, rel=0.2)


def test_a_full_disk_is_told_before_the_teachers_are_asked(tiny, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10_000))
    with pytest.raises(StorageError, match="take fewer teachers"):
        run(tiny(*taught_by(teacher)), tmp_path / "student")


def test_several_teachers_are_asked_and_remembered(tiny, teacher, tmp_path):
    run(tiny("model.d_model=24", "seed=9"), tmp_path / "second")
    both = f"[{teacher}, {tmp_path / 'second'}]"
    assert run(tiny("objective.kind=distillation", f"objective.teacher={both}"), tmp_path / "student") is not None
    kept = Bundle.load(tmp_path / "student").history["teacher_sha256"]
    assert len(set(kept)) == 2


def test_a_student_reads_other_spellings_of_sources_but_not_of_targets(tiny, teacher, tmp_path):
    pieces = "tokenizer={joint: {kind: byte_bpe, vocab_size: 280}}"
    run(tiny(pieces), tmp_path / "older")
    settings = (*taught_by(tmp_path / "older"), pieces)
    assert run(tiny(*settings, "data.subword_dropout={source: 0.2}"), tmp_path / "student") is not None
    with pytest.raises(ConfigError, match="reads each target as it is stored"):
        tiny(*settings, "data.subword_dropout=0.2")
    with pytest.raises(ConfigError, match="no teacher"):
        run(tiny("objective.kind=distillation", "objective.teacher=[]"), tmp_path / "none")


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


def test_a_run_goes_on_without_the_teacher_that_it_asked(tiny, teacher, tmp_path, monkeypatch):
    recipe = tiny(*taught_by(teacher))
    run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        assert run(recipe, tmp_path / "parts") is None
    shutil.rmtree(teacher)
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
