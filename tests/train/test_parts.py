"""Schedules, optimisers and scores against their formulas and against other code."""

import copy
import math

import pytest
import torch
from sacrebleu import corpus_bleu, corpus_chrf
from safetensors.torch import load_file, save_file
from sameness import same_run, stop_after

from clearhead.core.errors import CheckpointError, ConfigError
from clearhead.core.registry import Choice
from clearhead.model import ModelConfig, Transformer
from clearhead.train import run
from clearhead.train.optimizers import OPTIMIZERS, parameter_groups
from clearhead.train.schedules import SCHEDULES
from clearhead.train.scores import moses, score_translations


def schedule(kind, peak=1.0, updates=100, d_model=512, **options):
    return SCHEDULES.build(Choice(kind=kind, options=options), peak, updates, d_model)


def test_the_paper_schedule_is_the_printed_formula():
    rate = schedule("paper", warmup=4000)
    for update in (1, 100, 3999, 4000, 4001, 100_000):
        expected = 512**-0.5 * min(update**-0.5, update * 4000**-1.5)
        assert rate(update) == pytest.approx(expected, rel=1e-12)


def test_inverse_sqrt_is_the_paper_schedule_named_by_its_peak():
    peak = (512 * 4000) ** -0.5
    one, other = schedule("inverse_sqrt", peak, warmup=4000), schedule("paper", warmup=4000)
    for update in (1, 2000, 4000, 50_000):
        assert one(update) == pytest.approx(other(update), rel=1e-12)


def test_linear_and_cosine_match_torch_from_the_peak_to_the_floor():
    linear, cosine = schedule("linear", 2.0, warmup=10), schedule("cosine", 2.0, warmup=10)
    for update in range(1, 101):
        warm, done = min(1.0, update / 10), max(0.0, (update - 10) / 90)
        assert linear(update) == pytest.approx(2 * warm * (1 - done), abs=1e-12)
        assert cosine(update) == pytest.approx(2 * warm * 0.5 * (1 + math.cos(math.pi * done)), abs=1e-12)
    assert schedule("cosine", 2.0, floor=0.1)(100) == pytest.approx(0.2)


@pytest.mark.parametrize("kind", SCHEDULES.names())
def test_no_schedule_exceeds_its_peak_or_goes_below_zero(kind):
    rate = schedule(kind, 0.5, updates=50, d_model=16)
    assert all(0 <= rate(update) <= 0.5 for update in range(1, 200))


@pytest.mark.parametrize(("kind", "other"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_optimisers_equal_torch_over_twenty_steps(kind, other):
    torch.manual_seed(0)
    own, reference = (torch.nn.Linear(5, 3, bias=False).double() for _ in range(2))
    reference.load_state_dict(own.state_dict())
    ours = OPTIMIZERS.build(Choice(kind=kind, options={"weight_decay": 0.1}))(parameter_groups(own))
    theirs = other(reference.parameters(), lr=0.01, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.1, foreach=False)
    for step in range(20):
        inputs = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        for model, optimizer in ((own, ours), (reference, theirs)):
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            optimizer.step()
    torch.testing.assert_close(own.weight, reference.weight, atol=1e-12, rtol=0)


def test_vectors_are_not_decayed():
    groups = parameter_groups(torch.nn.Linear(3, 2))
    assert [len(each["params"]) for each in groups] == [1, 1]
    assert groups[1]["weight_decay"] == 0.0


def small_decoder() -> Transformer:
    sizes = {"encoder_layers": 0, "decoder_layers": 2, "d_model": 8, "heads": 2, "d_ff": 12, "target_vocab": 11}
    torch.manual_seed(1)
    return Transformer(ModelConfig(**sizes, tie="output", position="learned", length=6, dropout=0.0))


def test_groups_tell_maps_tables_and_vectors_apart():
    model = small_decoder()
    roles = {id(each): group["role"] for group in parameter_groups(model) for each in group["params"]}
    names = {name: roles[id(each)] for name, each in model.named_parameters()}
    assert names["output"] == names["decoder.embedding_sum.position.table"] == "table"
    assert (
        names["decoder.blocks.1.feedforward.inner.weight"] == names["decoder.blocks.0.attention.output.weight"] == "map"
    )
    assert names["decoder.blocks.0.attention.output.bias"] == "vector"
    assert len(roles) == len(list(model.parameters()))


def learn(model: Transformer, optimizers: list[torch.optim.Optimizer], steps: range) -> None:
    for step in steps:
        ids = torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(step))
        model.zero_grad()
        model.logits(model.decode(ids)).square().mean().backward()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * (step + 1)
            optimizer.step()


def test_muon_is_torchs_for_maps_and_adamw_for_the_rest(tmp_path):
    own, other, again = (small_decoder() for _ in range(3))
    choice = Choice(kind="muon", options={"weight_decay": 0.1, "momentum": 0.9})
    ours, ours_again = (OPTIMIZERS.build(choice)(parameter_groups(each)) for each in (own, again))
    maps, tables, vectors = (each["params"] for each in parameter_groups(other))
    rest = [{"params": tables}, {"params": vectors, "weight_decay": 0.0}]
    theirs = [
        torch.optim.Muon(maps, 0.01, 0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, 0.01, (0.9, 0.98), 1e-9, 0.1, fused=True),
    ]
    learn(own, [ours], range(6))
    learn(other, theirs, range(6))
    assert all(map(torch.equal, own.parameters(), other.parameters()))
    learn(again, [ours_again], range(3))
    later = OPTIMIZERS.build(choice)(parameter_groups(again))
    later.load_state_dict(copy.deepcopy(ours_again.state_dict()))
    learn(again, [later], range(3, 6))
    assert all(map(torch.equal, own.parameters(), again.parameters()))


def test_muon_takes_as_many_maps_as_tables():
    weights = [torch.nn.Parameter(torch.ones(3, 2)) for _ in range(2)]
    groups = [{"params": [each], "role": role} for each, role in zip(weights, ("map", "table"), strict=True)]
    kinds = [type(each) for each in OPTIMIZERS.build(Choice(kind="muon"))(groups).parts]
    assert kinds == [torch.optim.Muon, torch.optim.AdamW]


def test_states_of_other_parameters_are_refused(tiny, tmp_path, monkeypatch):
    recipe, out = tiny(), tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        run(recipe, out)
    for each in (out / "checkpoints").glob("update-*/optimizer.safetensors"):
        kept = load_file(each)
        moments = [name for name in kept if name.endswith("exp_avg")]
        turned = dict(zip(moments, reversed([kept[name] for name in moments]), strict=True))
        save_file({**kept, **turned}, each)
    with pytest.raises(CheckpointError, match="older version"):
        run(recipe, out, resume=True)


def test_a_run_with_muon_goes_on_where_it_stopped(tiny, tmp_path, monkeypatch):
    recipe = tiny("train.optimizer={kind: muon, weight_decay: 0.1}", "train.accumulate=2")
    run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        assert run(recipe, tmp_path / "parts") is None
    run(recipe, tmp_path / "parts", resume=True)
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_muon_does_not_go_with_divided_matrices(tiny):
    with pytest.raises(ConfigError, match="needs whole matrices"):
        tiny("train.optimizer=muon", "train.parallel=shard")


def test_muon_works_without_maps_or_without_the_rest():
    weight = torch.nn.Parameter(torch.ones(3, 2))
    for role in ("map", "table"):
        optimizer = OPTIMIZERS.build(Choice(kind="muon"))([{"params": [weight], "role": role}])
        weight.grad = torch.ones(3, 2)
        before = weight.detach().clone()
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        optimizer.step()
        assert not torch.equal(before, weight)


OUTPUTS = ["A man walks down the street.", "Two dogs, running!", "the end"]
REFERENCES = ["A man is walking down the street.", "Two dogs are running!", "The end"]


def test_scores_are_those_of_sacrebleu():
    scores = score_translations(OUTPUTS, REFERENCES)
    assert scores["bleu"] == pytest.approx(corpus_bleu(OUTPUTS, [REFERENCES]).score, abs=1e-9)
    assert scores["chrf"] == pytest.approx(corpus_chrf(OUTPUTS, [REFERENCES]).score, abs=1e-9)
    assert "case:mixed" in scores["bleu_signature"]
    assert "tok:13a" in scores["bleu_signature"]


def test_lowercased_bleu_forgives_case_and_a_perfect_output_scores_100():
    texts = ["Ein Mann, der auf der Straße geht.", "Zwei Hunde rennen schnell!"]
    scores = score_translations([each.upper() for each in texts[1:]], texts[1:], "de")
    assert scores["bleu_tokenized_lowercased"] == pytest.approx(100.0)
    assert scores["bleu"] < 50
    assert score_translations(texts, texts, "de")["bleu"] == pytest.approx(100.0)


def test_moses_splits_punctuation_and_keeps_angle_brackets():
    assert moses("Hunde, die <laufen>.", "de") == "Hunde , die < laufen > ."
