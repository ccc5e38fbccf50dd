"""Runs on text and on classes keep the promises of every run, learn, and end in a bundle that can be scored."""

import math

import numpy as np
import pytest
import torch
from sameness import record, same_run

from clearhead.bundle import Bundle
from clearhead.core.errors import ConfigError, DataError
from clearhead.core.processes import World
from clearhead.core.recipe import read_recipe
from clearhead.data.buckets import Place
from clearhead.train import Recipe, run
from clearhead.train.evaluation import evaluate
from clearhead.train.objectives import OBJECTIVES
from clearhead.train.recipe import Metric
from clearhead.train.samples import sampled_text
from clearhead.train.scores import score_classes
from clearhead.train.stream import updates
from clearhead.train.tasks import TASKS
from clearhead.train.tasks.text import TextTask
from clearhead.train.trainer import Trainer

DECODER, ENCODER = "encoder_layers: 0, decoder_layers: 1", "encoder_layers: 1, decoder_layers: 0"
CHAR = "{kind: char, extra_tokens: [<fim_prefix>, <fim_suffix>, <fim_middle>]}"
TEXT = ("text, file: train.txt, document: paragraph", "text, file: valid.txt, document: paragraph")
LABELS = ("tsv, file: train.tsv", "tsv, file: valid.tsv")
CASES = {  # objective -> sizes and head of the model, data, reading
    "causal": (DECODER, "lm", TEXT, "packed, length: 24"),
    "fill_in_the_middle": (DECODER, "lm", TEXT, "packed, length: 24"),
    "prefix": (DECODER, "lm", TEXT, "windows, length: 16"),
    "masked": (ENCODER, "mlm", TEXT, "windows, length: 16"),
    "permutation": (ENCODER, "lm", TEXT, "packed, length: 24"),
    "next_sentence": (ENCODER, "pretraining", TEXT, "sentence_pairs, length: 24"),
    "replaced_token": (ENCODER, "{kind: tokens, labels: 1}", TEXT, "packed, length: 24"),
    "classification": (ENCODER, "{kind: classify, labels: 2}", LABELS, None),
}
EACH_CASE = pytest.mark.parametrize(
    "objective", [each for each in OBJECTIVES.names() if OBJECTIVES.get(each).task != "translation"]
)
SOME = pytest.mark.parametrize("objective", ["causal", "masked", "replaced_token", "classification"])


@pytest.fixture(autouse=True)
def no_report(request, monkeypatch):
    """The page of a run takes longer than these runs; one test has it."""
    if "report" not in request.node.name:
        monkeypatch.setattr("clearhead.train.tasks.base.write_report", lambda *given, **options: None)


@pytest.fixture
def recipe(tmp_path):
    """A function from an objective and overrides to a recipe on a tiny corpus in `tmp_path`."""
    random = np.random.default_rng(7)
    for split, count in (("train", 40), ("valid", 6)):
        texts = [["".join(random.choice(list("abcdef"), 5)) + "g" for _ in range(4)] for _ in range(count)]
        (tmp_path / f"{split}.txt").write_text("\n\n".join("\n".join(each) for each in texts) + "\n")
        rows = [f"{each[0]}\t{'odd' if each[0].count('a') % 2 else 'even'}\n" for each in texts]
        (tmp_path / f"{split}.tsv").write_text("".join(rows))

    def make(objective, *overrides):
        layers, head, (train, valid), reading = CASES[objective]
        path, types = tmp_path / f"{objective}.yaml", 2 if layers == ENCODER else 0
        path.write_text(
            f"""
seed: 3
tokenizer: {{joint: {CHAR}}}
data:
  folder: {tmp_path}
  train: {{kind: {train}}}
  valid: {{kind: {valid}}}
{f"  reading: {{kind: {reading}}}" if reading else ""}
model: {{{layers}, d_model: 16, heads: 2, d_ff: 32, length: 32, dropout: 0.1, tie: output,
  head: {head}, segments: {types}}}
objective: {objective}
train: {{updates: 5, batch_tokens: 120, learning_rate: 0.01, schedule: {{kind: constant, warmup: 2}},
  precision: float32, device: cpu, threads: 1, processes: 1, log_every: 1, validate_every: 3,
  checkpoint_every: 2, keep: 2}}
"""
        )
        return read_recipe(path, overrides, Recipe)

    return make


@EACH_CASE
def test_a_killed_run_continues_and_ends_the_same_bit_for_bit(objective, recipe, tmp_path, monkeypatch):
    settings = ("train.accumulate=2",)
    whole = run(recipe(objective, *settings), tmp_path / "whole")
    plain = Trainer._update

    def dies(self, batches, after, state):
        if state.update == 3:
            raise RuntimeError("killed")
        plain(self, batches, after, state)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", dies)
        with pytest.raises(RuntimeError):
            run(recipe(objective, *settings), tmp_path / "parts")
    run(recipe(objective, *settings), tmp_path / "parts", resume=True)
    same_run(tmp_path / "whole", tmp_path / "parts")
    assert math.isfinite(whole.history["valid_loss"])
    losses = [line["loss"] for line in record(tmp_path / "whole") if line["kind"] == "train"]
    assert len(losses) == 5
    assert Bundle.load(tmp_path / "whole").model.config.head.kind in CASES[objective][1]


@SOME
def test_a_model_learns(objective, recipe, tmp_path):
    settings = ("train.updates=60", "model.dropout=0", "train.validate_every=60", "train.checkpoint_every=60")
    run(recipe(objective, *settings), tmp_path / "one")
    losses = [line["loss"] for line in record(tmp_path / "one") if line["kind"] == "train"]
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:3])


def test_metrics_of_a_language_model_follow_from_its_loss(recipe, tmp_path):
    bundle = run(recipe("causal"), tmp_path / "one")
    valid = [line for line in record(tmp_path / "one") if line["kind"] == "valid"][-1]
    documents = [each.rstrip("\n") for each in (tmp_path / "valid.txt").read_text().split("\n\n")]
    assert valid["predicted_tokens"] == sum(len(each) + 1 for each in documents)  # eos counts
    assert valid["perplexity"] == pytest.approx(math.exp(valid["loss"]))
    bits = valid["loss"] * valid["predicted_tokens"] / math.log(2)
    assert valid["bits_per_byte"] == pytest.approx(bits / sum(len(each.encode()) for each in documents))
    assert isinstance(valid["sample"], str)
    expected = 0.0
    for document in documents:
        ids = torch.tensor([[bundle.target.bos, *bundle.target.encode(document), bundle.target.eos]])
        for start in range(0, ids.shape[1] - 1, 24):  # longer than a row: the next part begins with the last token
            part = ids[:, start : start + 25]
            logits = bundle.model.logits(bundle.model.decode(part[:, :-1]))[0]
            expected += torch.nn.functional.cross_entropy(logits, part[0, 1:], reduction="sum").item()
    nats = bundle.history["valid_loss"] * bundle.history["valid_predicted_tokens"]
    assert nats == pytest.approx(expected, rel=1e-5)


@SOME
def test_evaluating_a_bundle_gives_the_scores_of_its_run(objective, recipe, tmp_path):
    bundle = run(recipe(objective), tmp_path / "one")
    if objective == "replaced_token":
        return
    labels = objective == "classification"
    path, options = (tmp_path / "valid.tsv", {}) if labels else (tmp_path / "valid.txt", {"document": "paragraph"})
    scores = evaluate(Bundle.load(tmp_path / "one"), path, options)
    for name in ("loss", "accuracy", "bits_per_byte"):
        if f"valid_{name}" in bundle.history:
            assert scores[name] == pytest.approx(bundle.history[f"valid_{name}"], rel=1e-5)


def test_the_report_of_a_language_model_has_its_scores(recipe, tmp_path):
    from clearhead.train.report import report_of

    run(recipe("causal"), tmp_path / "one")
    page = (tmp_path / "one/report.html").read_text()
    assert "Bits per byte" in page
    assert report_of(tmp_path / "one").read_text() == page


def test_an_unknown_class_is_told_with_its_place(recipe, tmp_path):
    bundle = run(recipe("classification"), tmp_path / "one")
    (tmp_path / "new.tsv").write_text("abc\teven\nabd\tevn\n")
    with pytest.raises(DataError, match=r"new.tsv, line 2: a class .* did you mean 'even'"):
        evaluate(bundle, tmp_path / "new.tsv", {})


@pytest.mark.parametrize(
    ("objective", "override", "message"),
    [
        ("causal", "data.train={kind: txt, file: a}", r"data.train: no corpus of kind 'txt'.* did you mean 'text'"),
        ("causal", "data.valid={kind: text, fil: a}", r"corpus 'text' has no option 'fil'"),
        ("causal", "data.language=de", r"data.language: this key does nothing for the objective causal"),
        ("causal", "data.reading=sentence_pairs", r"data.reading: the objective causal does not read sentence_pairs"),
        ("causal", "model.decoder_layers=0", r"at least one layer"),
        ("causal", "model.encoder_layers=1", r"causal needs a decoder-only model; found encoder-decoder"),
        ("masked", "model.head=pretraining", r"model.head: another head is needed; found pretraining"),
        ("causal", "train.metric=bleu", r"train.metric: not measured for the objective causal"),
        ("causal", "tokenizer={source: char, target: char}", r"tokenizer: the objective causal reads one kind of text"),
        ("classification", "data.reading=windows", r"data.reading: this key does nothing"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_by_name(objective, override, message, recipe):
    with pytest.raises(ConfigError, match=message):
        recipe(objective, override)


def test_a_recipe_without_text_fails_before_anything_is_learned(recipe, tmp_path):
    (tmp_path / "valid.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"data\.valid: no text"):
        run(recipe("causal"), tmp_path / "one")
    assert not (tmp_path / "one/tokenizer.json").exists()


def test_a_wrong_number_of_labels_is_told(recipe, tmp_path):
    with pytest.raises(ConfigError, match=r"model.head.labels: .* found 3; expected 2 \(even, odd\)"):
        run(recipe("classification", "model.head.labels=3"), tmp_path / "one")


def test_rows_longer_than_the_model_are_refused(recipe, tmp_path):
    with pytest.raises(DataError, match=r"data.reading.length: rows are longer"):
        run(recipe("causal", "data.reading.length=64"), tmp_path / "one")


def test_processes_share_the_batches_of_an_update():
    def order():
        for number in range(1, 100):
            yield number, Place(0, number)

    alone = updates(order(), 3, World(), lambda rows, after: (rows, after.batch))
    shares = [updates(order(), 3, World(rank, 2), lambda rows, after: (rows, after.batch)) for rank in range(2)]
    for _ in range(4):
        whole, place = next(alone)
        parts = [next(each) for each in shares]
        assert sorted(each for part, _ in parts for each in part) == whole
        assert {after for _, after in parts} == {place}


def test_every_metric_belongs_to_a_task():
    measured = {name for task in TASKS.names() for name in TASKS.get(task).metrics}
    assert measured == set(Metric.__args__)


def test_fits_and_tasks_agree():
    from clearhead.train.fitting import FITS

    assert {name: TASKS.get(name).metrics for name in TASKS.names()} == {
        name: fit.metrics for name, fit in FITS.items()
    }
    assert {OBJECTIVES.get(name).task for name in OBJECTIVES.names()} == set(FITS)


def test_a_sample_is_the_same_for_the_same_seed(recipe, tmp_path):
    task = TextTask(recipe("causal"), tmp_path)
    from clearhead.train.materials import build_model

    model = build_model(task.recipe, task.source, task.target).eval()
    one, two, other = (sampled_text(model, task.target, tokens=50, seed=seed) for seed in (1, 1, 2))
    assert one == two != other
    assert len(task.target.encode(one)) <= 50


def test_scores_of_classes_by_hand():
    scores = score_classes(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]))
    assert scores["accuracy"] == 0.5
    assert scores["macro_f1"] == pytest.approx((2 * 1 / 4 + 2 * 1 / 3 + 0) / 3)


def test_a_dry_run_reads_no_more_of_a_corpus_than_it_needs(recipe, tmp_path, monkeypatch):
    from clearhead.train.forecast import forecast
    from clearhead.train.tasks import text

    whole = forecast(recipe("causal"), tmp_path / "out")
    monkeypatch.setattr(text, "SAMPLE", 300)
    cut = forecast(recipe("causal"), tmp_path / "out")
    assert cut.disk_bytes < whole.disk_bytes
    assert (cut.parameters, cut.updates) == (whole.parameters, whole.updates)
    assert not (tmp_path / "out").exists()


@EACH_CASE
def test_every_objective_can_be_forecast(objective, recipe, tmp_path):
    from clearhead.train.forecast import forecast

    told = forecast(recipe(objective, "train.recompute=true"), tmp_path / "out")
    assert told.activation_bytes > 0
    assert told.tokens_per_update > 0
