"""Schedules, optimisers and scores against their formulas and against other code."""

import math

import pytest
import torch
from sacrebleu import corpus_bleu, corpus_chrf

from clearhead.core.registry import Choice
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
