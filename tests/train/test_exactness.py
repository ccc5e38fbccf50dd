"""The promises about a run: resumed = uninterrupted, accumulated = one batch, same seed = same run."""

import json
import signal
import threading
from types import SimpleNamespace

import pytest
import torch
from sameness import record, same_run, stop_after

from clearhead.bundle.weights import read_weights
from clearhead.core.errors import CheckpointError, ConfigError, ModelError, TokenizerError, TrainingError, UsageError
from clearhead.data.buckets import Place
from clearhead.data.sources import SOURCES
from clearhead.train import machine, run, trainer
from clearhead.train.materials import build_model
from clearhead.train.prepare import prepare_stores, prepare_tokenizers
from clearhead.train.signals import StopRequest
from clearhead.train.stream import batch_stream
from clearhead.train.trainer import Trainer


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tiny, tmp_path):
    run(tiny(), tmp_path / "one")
    run(tiny(), tmp_path / "two")
    same_run(tmp_path / "one", tmp_path / "two")
    run(tiny("seed=4"), tmp_path / "three")
    assert record(tmp_path / "one") != record(tmp_path / "three")


@pytest.mark.parametrize("update", [1, 5, 7, 11])
@pytest.mark.parametrize("objective", [(), ("objective.kind=r_drop",)], ids=str)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tiny, tmp_path, monkeypatch, objective, update
):
    recipe = tiny("train.accumulate=2", *objective)
    run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, update)
        assert run(recipe, tmp_path / "parts") is None
    assert run(recipe, tmp_path / "parts", resume=True) is not None
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_killed_run_continues_from_its_last_checkpoint_and_ends_the_same(tiny, tmp_path, monkeypatch):
    run(tiny(), tmp_path / "whole")
    plain = Trainer._update

    def dies(self, batches, after, state):
        if state.update == 8:
            raise RuntimeError("killed")
        plain(self, batches, after, state)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", dies)
        with pytest.raises(RuntimeError):
            run(tiny(), tmp_path / "killed")
    assert sorted(each.name for each in (tmp_path / "killed/checkpoints").iterdir())[-1] == "update-00000005"
    run(tiny(), tmp_path / "killed", resume=True)
    same_run(tmp_path / "whole", tmp_path / "killed")


def test_early_stopping_survives_a_resume(tiny, tmp_path, monkeypatch):
    settings = (
        "train.updates=60",
        "train.validate_every=2",
        "train.patience=2",
        "train.metric=loss",
        "train.learning_rate=1",
    )
    run(tiny(*settings), tmp_path / "whole")
    assert record(tmp_path / "whole")[-1]["update"] < 60
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        run(tiny(*settings), tmp_path / "parts")
    run(tiny(*settings), tmp_path / "parts", resume=True)
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_accumulated_batches_of_unequal_size_equal_one_large_batch(tiny, tmp_path):
    """Gradients of 1 + 2 + 4 sentences, summed and divided by their tokens, are those of the 7 together."""
    import numpy as np

    from clearhead.data.batches import translation_batch
    from clearhead.train.objectives import OBJECTIVES

    random = np.random.default_rng(0)
    sides = [[random.integers(5, 23, random.integers(1, 9)) for _ in range(7)] for _ in range(2)]
    recipe = tiny("model.dropout=0")

    class Vocabulary:
        vocab_size = 23

        def need(self, role):
            return {"pad": 0, "bos": 2, "eos": 3}[role]

    model = build_model(recipe, Vocabulary(), Vocabulary()).double().train()
    objective = OBJECTIVES.build(recipe.objective)

    def batch(part):
        return translation_batch(sides[0][part], sides[1][part], pad=0, bos=2, eos=3)

    parts = [batch(slice(0, 1)), batch(slice(1, 3)), batch(slice(3, 7))]
    total = sum(each.tokens for each in parts)
    for each in parts:
        (objective(model, each).value / total).backward()
    accumulated = [each.grad.clone() for each in model.parameters()]
    model.zero_grad()
    whole = objective(model, batch(slice(0, 7)))
    assert whole.count == total
    (whole.value / total).backward()
    for own, parameter in zip(accumulated, model.parameters(), strict=True):
        torch.testing.assert_close(own, parameter.grad, atol=1e-12, rtol=0)


def test_a_folder_with_a_run_is_not_overwritten(tiny, tmp_path):
    run(tiny(), tmp_path / "one")
    before = (tmp_path / "one/model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="already holds a run; add --resume"):
        run(tiny(), tmp_path / "one")
    with pytest.raises(CheckpointError, match="recipe is not the one"):
        run(tiny("seed=9"), tmp_path / "one", resume=True)
    assert (tmp_path / "one/model.safetensors").read_bytes() == before


def test_resuming_a_finished_run_changes_nothing(tiny, tmp_path):
    run(tiny(), tmp_path / "one")
    before = record(tmp_path / "one"), (tmp_path / "one/model.safetensors").read_bytes()
    run(tiny(), tmp_path / "one", resume=True)
    assert (record(tmp_path / "one"), (tmp_path / "one/model.safetensors").read_bytes()) == before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tiny, tmp_path, monkeypatch):
    plain = Trainer._update

    def poisoned(self, batches, after, state):
        if state.update == 6:
            with torch.no_grad():
                self.model.output.fill_(float("nan"))
        plain(self, batches, after, state)

    monkeypatch.setattr(Trainer, "_update", poisoned)
    with pytest.raises(TrainingError, match="not finite at update 7"):
        run(tiny(), tmp_path / "one")
    kept = read_weights(tmp_path / "one/checkpoints/update-00000005/model.safetensors")
    assert all(each.isfinite().all() for each in kept.values())


def test_only_the_newest_checkpoints_stay(tiny, tmp_path):
    run(tiny("train.checkpoint_every=2"), tmp_path / "one")
    names = sorted(each.name for each in (tmp_path / "one/checkpoints").glob("update-*"))
    assert names == ["update-00000010", "update-00000012"]


def test_a_time_budget_shortens_the_run(tiny, tmp_path, monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 0.5
        return now[0]

    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=clock))
    run(tiny("train.updates=1000", "train.minutes=0.5", "train.validate_every=1000"), tmp_path / "one")
    assert record(tmp_path / "one")[-1]["update"] == 60  # half a second each, 30 seconds in all


def test_a_second_ctrl_c_stops_at_once():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_signals_are_left_alone_outside_the_main_thread():
    failures = []

    def body():
        try:
            with StopRequest():
                pass
        except ValueError as error:  # what signal.signal raises in a thread
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert not failures


@pytest.mark.parametrize("sides", [["source"], ["target"], ["source", "target"]], ids=str)
def test_subword_dropout_draws_new_spellings_each_epoch_and_resumes_exactly(tiny, tmp_path, monkeypatch, sides):
    joint = "tokenizer={joint: {kind: byte_bpe, vocab_size: 300, prefix_space: true}}"
    settings = (joint, *(f"data.subword_dropout.{each}=0.5" for each in sides), "model.tie=all")
    run(tiny(*settings), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        run(tiny(*settings), tmp_path / "parts")
    run(tiny(*settings), tmp_path / "parts", resume=True)
    same_run(tmp_path / "whole", tmp_path / "parts")
    run(tiny(joint, "model.tie=all"), tmp_path / "plain")
    assert record(tmp_path / "plain") != record(tmp_path / "whole")


def test_subword_dropout_keeps_the_text(tiny, tmp_path):
    joint = "tokenizer={joint: {kind: byte_bpe, vocab_size: 300}}"
    recipe = tiny(joint, "data.subword_dropout.source=0.5", "model.tie=all")
    pairs = list(SOURCES.build(recipe.data.train, tmp_path))
    source, target = prepare_tokenizers(recipe.tokenizer, pairs, tmp_path)
    stores = prepare_stores(pairs, source, target, recipe.data.filter, tmp_path / "store")
    texts = sorted(each.source for each in pairs)
    spellings, targets = set(), set()
    stream = batch_stream(recipe, stores, (source, target), Place())
    for _ in range(2):
        seen = []
        while len(seen) < len(texts):
            [batch], _ = next(stream)
            seen += source.decode_batch(batch.source.tolist())
            spellings |= {tuple(row.tolist()) for row in batch.source}
            targets |= {tuple(row[counted].tolist()) for row, counted in zip(batch.labels, batch.counted, strict=True)}
        assert sorted(seen) == texts
    assert len(spellings) > len(texts)
    assert len(targets) == len({each.target for each in pairs})


def test_subword_dropout_without_merges_is_refused(tiny, tmp_path):
    with pytest.raises(TokenizerError, match="no plain BPE merges"):
        run(tiny("data.subword_dropout.target=0.1"), tmp_path / "one")


def test_a_resumed_run_keeps_the_number_format_it_began_with(tiny, tmp_path, monkeypatch):
    chosen = iter([torch.bfloat16, torch.float32])
    monkeypatch.setattr(machine, "pick_dtype", lambda precision, device, shape: next(chosen))
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        run(tiny("train.precision=auto"), tmp_path / "one")
    run(tiny("train.precision=auto"), tmp_path / "one", resume=True)
    assert json.loads((tmp_path / "one/machine.json").read_text())["precision"] == "bfloat16"
    assert next(chosen) == torch.float32  # never asked again


def test_frozen_groups_stay_as_they_are_and_an_unknown_group_is_refused(tiny, tmp_path):
    run(tiny("train.updates=1", "train.freeze=[encoder.*.attention]"), tmp_path / "one")
    run(tiny("train.updates=12", "train.freeze=[encoder.*.attention]"), tmp_path / "more")
    one, more = (read_weights(tmp_path / each / "model.safetensors") for each in ("one", "more"))
    still = {name for name in one if torch.equal(one[name], more[name])}
    assert still == {name for name in one if name.startswith("encoder.blocks.0.attention.")}
    with pytest.raises(ModelError, match="encodr"):
        run(tiny("train.freeze=[encodr]"), tmp_path / "wrong")


def test_a_number_is_the_subword_dropout_of_both_sides(tiny):
    """As recipes said it once; those of old runs do."""
    found = tiny("data.subword_dropout=0.25").data.subword_dropout
    assert (found.source, found.target) == (0.25, 0.25)
    assert tiny("data.subword_dropout=0.0") == tiny()
    for value in ("true", "1.0", "[0.1]"):
        with pytest.raises(ConfigError):
            tiny(f"data.subword_dropout={value}")
