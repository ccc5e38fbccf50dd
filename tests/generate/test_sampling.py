"""Samplers do what plain loops do, draw what they promise, and keep requests apart."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch.testing import assert_close

from clearhead.core.errors import ModelError
from clearhead.core.registry import Choice
from clearhead.generate.sampling import STEPS, Chooser, Context, SamplingConfig, Spelling, Step

VOCAB, EOS, PROMPT = 23, 2, [1, 5, 5, 9]
LETTERS = Spelling([None, None, None, *(bytes([97 + index]) for index in range(VOCAB - 3))])
VALUES = {  # of each step, an option that does something
    "bad_words": ((7,), (3, 4), (5, 9, 6)),
    "constraint": Choice(kind="regex", options={"pattern": "[a-e]{3,9}"}),
    "frequency_penalty": 0.7,
    "logit_bias": {3: 1.5, 8: -2.0},
    "min_p": 0.1,
    "presence_penalty": 0.9,
    "repetition_penalty": 1.4,
    "temperature": 0.6,
    "top_k": 6,
    "top_p": 0.8,
    "typical": 0.7,
}
EACH_STEP = pytest.mark.parametrize("name", STEPS.names())


def step(name: str) -> Step:
    if name == "constraint":
        pytest.importorskip("llguidance")
    context = Context(prompt=PROMPT, vocab=VOCAB, eos=EOS, spelling=LETTERS)
    return STEPS.get(name)(context, value=VALUES[name])


def chooser(vocab: int = VOCAB, **settings: object) -> Chooser:
    return Chooser(SamplingConfig(**settings), PROMPT, vocab=vocab, eos=EOS, spelling=LETTERS)


def logits(seed: int = 0, vocab: int = VOCAB) -> torch.Tensor:
    return torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * 2


@EACH_STEP
def test_a_setting_is_the_step_of_its_name_and_its_default_is_none(name):
    assert SamplingConfig().choices() == []
    assert [each.kind for each in SamplingConfig(**{name: VALUES[name]}).choices()] == [name]


@EACH_STEP
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_step_changes_something_but_not_what_it_is_given(name, dtype):
    part, given = step(name), logits().to(dtype)
    part.advance(5)
    before = given.clone()
    after = part.apply(given)
    assert torch.equal(given, before)
    assert after.shape == given.shape
    assert after.isfinite().any()
    assert not torch.equal(after.float().softmax(0), given.float().softmax(0))


@EACH_STEP
def test_a_fork_goes_its_own_way(name):
    part, given = step(name), logits()
    part.advance(3)
    fork, expected = part.fork(), part.apply(given)
    for token in (4, 5, 6):
        fork.advance(token)
    assert torch.equal(part.apply(given), expected)
    for token in (4, 5, 6):
        part.advance(token)
    assert torch.equal(part.apply(given), fork.apply(given))


@EACH_STEP
def test_a_step_that_only_shapes_the_distribution_keeps_the_most_probable_token(name):
    part = step(name)
    if part.samples and name != "typical":
        assert all(part.apply(logits(seed)).argmax() == logits(seed).argmax() for seed in range(20))
    elif name != "typical":
        part.advance(5)
        assert any(part.apply(logits(seed)).argmax() != logits(seed).argmax() for seed in range(200))


def test_penalties_and_biases_are_the_plain_loops():
    given, output = logits(), [3, 3, 8, 3]
    one = chooser(frequency_penalty=0.7, presence_penalty=-0.4, repetition_penalty=1.3, logit_bias={3: 1.5, 8: -2.0})
    for token in output:
        one.advance(token)
    expected = given.tolist()
    for token in range(VOCAB):
        expected[token] += {3: 1.5, 8: -2.0}.get(token, 0.0)
        if token in PROMPT or token in output:
            expected[token] *= 1.3 if expected[token] < 0 else 1 / 1.3
        expected[token] -= 0.7 * output.count(token) - 0.4 * (token in output)
    assert_close(one.shaped(given), torch.tensor(expected), rtol=1e-6, atol=1e-6)


def test_bad_words_are_forbidden_at_their_last_token_only():
    one = chooser(temperature=0, bad_words=[[7], [9, 3], [5, 9, 4], [3, 3], [2, 5, 9, 8]])  # the prompt ends in 5 5 9
    assert [token for token in range(VOCAB) if one.shaped(logits())[token] == -math.inf] == [3, 4, 7]
    one.advance(3)
    assert [token for token in range(VOCAB) if one.shaped(logits())[token] == -math.inf] == [3, 7]


@pytest.mark.parametrize("vocab", [5, 130, 1_500])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("name", ["top_p", "typical"])
def test_the_smallest_set_that_holds_its_share_is_kept(name, share, vocab):
    for scale in (0.3, 3.0):
        given = scale * logits(3, vocab).double()
        kept = STEPS.get(name)(Context(prompt=[], vocab=vocab), value=share).apply(given).isfinite()
        probabilities = given.softmax(0).numpy()
        surprise = -np.log(probabilities)
        order = np.argsort(surprise if name == "top_p" else np.abs(surprise - (probabilities * surprise).sum()))
        held = count = 0
        while held < share and count < vocab:
            held += probabilities[order[count]]
            count += 1
        assert kept.nonzero()[:, 0].tolist() == sorted(order[:count].tolist())


def test_top_k_and_min_p_keep_what_their_definition_says():
    for seed in range(5):
        given = logits(seed)
        few = chooser(top_k=6).probabilities(given)
        assert (few > 0).nonzero()[:, 0].tolist() == sorted(given.argsort(descending=True)[:6].tolist())
        likely = chooser(min_p=0.1).probabilities(given) > 0
        assert torch.equal(likely, given.softmax(0) >= 0.1 * given.softmax(0).max())
    assert torch.equal(chooser(top_k=1_000).shaped(given), given)


MIXTURES = [
    {},
    {"temperature": 0.5},
    {"temperature": 1.7, "top_k": 5},
    {"top_p": 0.8},
    {"min_p": 0.2, "temperature": 2.0},
    {"typical": 0.6},
    {"temperature": 0.9, "top_k": 9, "top_p": 0.95, "min_p": 0.02, "bad_words": [[4]], "logit_bias": {6: 3.0}},
    {"constraint": {"kind": "regex", "pattern": "[b-k]+"}},
]


@pytest.mark.parametrize("settings", MIXTURES, ids=str)
def test_tokens_come_as_often_as_their_probabilities_say(settings):
    if "constraint" in settings:
        pytest.importorskip("llguidance")
    given, draws = logits(7) / 2, 4_000
    one = chooser(seed=11, **settings)
    expected = one.probabilities(given).double().numpy()
    found = np.bincount([one.draw(one.probabilities(given)) for _ in range(draws)], minlength=VOCAB)
    assert found[expected == 0].sum() == 0
    assert _p_value(found, expected) > 1e-3
    other = np.where(expected > 0, np.sqrt(expected), 0.0)  # a distribution that it is not
    assert _p_value(found, other / other.sum()) < 1e-6


def _p_value(found: np.ndarray, expected: np.ndarray) -> float:
    """Of Pearson's test, the rare tokens counted together."""
    wanted = expected * found.sum()
    common = wanted >= 10
    groups = [(found[common], wanted[common])]
    if (rare := wanted[~common].sum()) > 1:
        groups.append((found[~common].sum(keepdims=True), np.array([rare])))
    counts, means = (np.concatenate(each) for each in zip(*groups, strict=True))
    return float(stats.chisquare(counts, means * counts.sum() / means.sum()).pvalue)


def test_the_log_probability_is_the_models_own():
    for settings in ({}, {"temperature": 0.3, "top_k": 2}, {"temperature": 0, "frequency_penalty": 2.0}):
        one = chooser(seed=1, **settings)
        for seed in range(5):
            given = logits(seed)
            token, value = one.choose(given)
            assert value == pytest.approx(float(given.log_softmax(0)[token]), abs=1e-6)
    best = given.log_softmax(0).sort(descending=True)
    found = one.top(given, 4)
    assert [token for token, _ in found] == best.indices[:4].tolist()
    assert [value for _, value in found] == pytest.approx(best.values[:4].tolist(), abs=1e-6)
    assert len(one.top(given, 99)) == VOCAB


def test_the_same_seed_gives_the_same_tokens_whatever_else_is_served():
    alone = chooser(seed=5, temperature=2.0)
    expected = [alone.choose(logits(step)).token for step in range(30)]
    one, other = chooser(seed=5, temperature=2.0), chooser(seed=6, temperature=2.0)
    found = []
    for place in range(30):
        other.choose(logits(place))
        torch.rand(3)
        found.append(one.choose(torch.stack([logits(99), logits(place)])[1]).token)
    assert found == expected
    assert len(set(expected)) > 5
    unlike = [other.choose(logits(place)).token for place in range(30)]
    assert unlike != expected


def test_without_a_seed_torch_decides():
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        one = chooser(temperature=3.0)
        runs.append([one.choose(logits()).token for _ in range(12)])
    assert runs[0] == runs[1] != runs[2]


def test_only_a_request_without_any_step_is_plain():
    assert chooser(temperature=0).plain
    assert chooser(temperature=0, seed=4, top_p=1.0, logit_bias={}).plain
    assert not chooser().plain
    for name in {*STEPS.names()} - {"constraint"}:
        if not step(name).samples:
            assert not chooser(temperature=0, **{name: VALUES[name]}).plain


def test_greedy_takes_the_largest_logit_after_the_penalties():
    one, seen = chooser(temperature=0, presence_penalty=100.0), []
    for _ in range(VOCAB):
        seen.append(one.choose(logits()).token)
    assert seen == logits().argsort(descending=True).tolist()


def test_the_tiniest_temperature_is_greedy():
    for value in (1e-30, 1e-45):
        assert all(chooser(temperature=value).choose(logits(s)).token == int(logits(s).argmax()) for s in range(9))


def test_a_draw_never_falls_on_what_is_impossible():
    one, given = chooser(seed=0), torch.tensor([0.0, 0.0, 0.3, 0.0, 0.1, 0.0, 0.0])
    assert {one.draw(given) for _ in range(200)} == {2, 4}
    one.uniform = lambda: 1.0 - 2.0**-53
    assert one.draw(given) == 4
    one.uniform = lambda: 0.0
    assert one.draw(given) == 2


def test_a_step_of_ones_own_is_named_under_steps():
    class Odd(Step):
        def __init__(self, context: Context, *, penalty: float = 1.0) -> None:
            super().__init__(context)
            self.penalty = penalty

        def apply(self, logits: torch.Tensor) -> torch.Tensor:
            return logits - self.penalty * (torch.arange(len(logits)) % 2)

    STEPS.register("odd")(Odd)
    try:
        one = chooser(temperature=0, steps=[{"kind": "odd", "penalty": 1_000}])
        assert all(one.choose(logits(seed)).token % 2 == 0 for seed in range(20))
    finally:
        del STEPS._parts["odd"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0, "top_p": 0.9}, "greedy search has no use of top_p; found temperature 0, top_p"),
        ({"temperature": 0, "steps": ["typical"]}, "needs the option 'value'"),
        ({"bad_words": [[4]], "logit_bias": {4: 1.0}}, "logit_bias and bad_words name the same token; found 4"),
        ({"bad_words": [[]]}, "at least 1 item"),
        ({"logit_bias": {-1: 1.0}}, "greater than or equal to 0"),
        ({"logit_bias": {1: math.inf}}, "finite"),
        ({"temperature": -0.1}, "greater than or equal to 0"),
        ({"temperature": math.nan}, "should be a number"),
        ({"top_p": 0.0}, "greater than 0"),
        ({"top_k": -1}, "greater than or equal to 0"),
        ({"top_k": True}, "not be true or false"),
        ({"min_p": 1.5}, "less than or equal to 1"),
        ({"repetition_penalty": 0.0}, "greater than 0"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"constraint": "rgex"}, "did you mean 'regex'"),
        ({"constraint": "regex"}, "needs the option 'pattern'"),
        ({"top_q": 1}, "not permitted"),
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(settings, message):
    with pytest.raises(ValidationError, match=message):
        SamplingConfig(**settings)


def test_settings_survive_a_file():
    config = SamplingConfig(**{**VALUES, "temperature": 0.6, "steps": [{"kind": "top_k", "value": 3}], "seed": 4})
    assert SamplingConfig.model_validate_json(config.model_dump_json()) == config


def test_requests_that_cannot_be_served_are_told_so():
    with pytest.raises(ModelError, match="the prompt names an unknown token; found 23; expected 0 to 22"):
        Chooser(SamplingConfig(), [23], vocab=VOCAB, eos=EOS)
    with pytest.raises(ModelError, match="logit_bias names an unknown token; found 99"):
        chooser(logit_bias={99: 1.0})
    with pytest.raises(ModelError, match="bad_words names an unknown token; found 23"):
        chooser(bad_words=[[3, 23]])
    with pytest.raises(ModelError, match="every token is forbidden"):
        chooser(bad_words=[[token] for token in range(VOCAB)]).choose(logits())
    for wrong in (math.nan, math.inf):
        given = logits()
        given[3] = wrong
        with pytest.raises(ModelError, match="logits are not numbers"):
            chooser().choose(given)
