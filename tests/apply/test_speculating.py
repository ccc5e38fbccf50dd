"""Guessing ahead changes how often the model is called, and nothing that anybody reads."""

from collections.abc import Callable

import pytest
import torch

from clearhead.apply import Model, Speculation, Wish
from clearhead.core.errors import DataError, ModelError
from clearhead.core.registry import Choice
from clearhead.generate import SamplingConfig, SpeculationConfig
from clearhead.generate.speculative import DRAFTERS
from clearhead.text import ByteKind

pytestmark = pytest.mark.usefixtures("double")
GREEDY = SamplingConfig(temperature=0.0)
TEXTS = ["abcabcab", "你好你", "x", "abab"]
EACH_KIND = pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
EACH_DRAFTER = pytest.mark.parametrize("name", DRAFTERS.names())


@pytest.fixture
def guess(make) -> Callable[..., Speculation]:
    """A function from a drafter to a speculation; a draft model agrees with the other one now and then."""

    def build(name: str = "lookup", kind: str = "decoder-only", tokens: int = 3, noise: float = 0.05) -> Speculation:
        draft = make(kind).bundle if name == "draft" else None
        if draft is not None:
            with torch.no_grad():
                for each in draft.model.parameters():
                    each.add_(torch.randn_like(each), alpha=noise)
        return Speculation(config=SpeculationConfig(drafter=Choice(kind=name), tokens=tokens), draft=draft)

    return build


@EACH_KIND
@EACH_DRAFTER
def test_greedy_answers_are_those_without_guessing(make, guess, name, kind):
    model, speculation = make(kind), guess(name, kind)
    wish = Wish(max_tokens=12, sampling=GREEDY, log_probabilities=2)
    plain = model.complete(TEXTS, wish)
    guessed = model.complete(TEXTS, wish, speculation=speculation)
    for (one,), (other,) in zip(plain, guessed, strict=True):
        assert (one.text, one.finish) == (other.text, other.finish)
        assert one.completion.tokens == other.completion.tokens
        assert one.completion.log_probabilities == pytest.approx(other.completion.log_probabilities, abs=1e-9)
        tops = [[token for token, _ in each] for each in one.completion.top]
        assert tops == [[token for token, _ in each] for each in other.completion.top]
        assert 0 < other.completion.first_token_seconds <= other.completion.seconds
    assert model.generate(TEXTS[0], max_tokens=12, sampling=GREEDY, speculation=speculation) == plain[0][0].text


@EACH_DRAFTER
def test_statistics_add_up(make, guess, name):
    model, speculation = make("decoder-only"), guess(name)
    answers = model.complete(TEXTS, Wish(max_tokens=11, sampling=GREEDY), speculation=speculation)
    done, tokens = speculation.statistics, sum(len(each.completion.tokens) for (each,) in answers)
    ends = sum(each.finish == "stop" for (each,) in answers)
    assert (done.requests, done.answers, done.answered) == (4, 4, 4)
    assert done.chosen_tokens == tokens + ends
    assert done.passes <= done.chosen_tokens <= done.accepted + done.passes
    assert done.accepted <= done.proposed <= 3 * done.passes
    assert done.acceptance_rate == done.accepted / done.proposed
    assert done.tokens_per_pass == done.chosen_tokens / done.passes > 1
    assert done.tokens_per_second > 0
    assert done.mean_first_token_seconds > 0


@EACH_KIND
@pytest.mark.parametrize("sampling", [GREEDY, SamplingConfig(seed=4, top_k=50)], ids=["greedy", "sampled"])
def test_a_draft_that_is_the_model_is_always_believed(make, guess, kind, sampling):
    speculation = guess("draft", kind, noise=0.0)
    make(kind).complete(["abc"], Wish(max_tokens=12, sampling=sampling), speculation=speculation)
    assert speculation.statistics.acceptance_rate == 1.0
    assert speculation.statistics.passes <= 3


@EACH_DRAFTER
def test_a_seed_gives_the_same_answer_again_and_pieces_are_the_text(make, guess, name):
    model, how = make("decoder-only"), {"max_tokens": 15, "sampling": SamplingConfig(seed=3)}
    pieces = list(model.stream("abcab", **how, speculation=guess(name)))
    assert all(pieces)
    assert "".join(pieces) == model.generate("abcab", **how, speculation=guess(name))
    other = {**how, "sampling": SamplingConfig(seed=4)}
    assert "".join(pieces) != model.generate("abcab", **other, speculation=guess(name))


@EACH_DRAFTER
def test_a_stop_string_ends_an_answer(make, guess, name):
    model = make("decoder-only")
    free = model.generate("ab", max_tokens=20, sampling=SamplingConfig(temperature=0.0, repetition_penalty=3.0))
    stop = free[3:5]
    wish = Wish(max_tokens=20, sampling=SamplingConfig(temperature=0.0, repetition_penalty=3.0), stop=[stop])
    ((answer,),), ((plain,),) = model.complete(["ab"], wish, speculation=guess(name)), model.complete(["ab"], wish)
    assert (answer.text, answer.finish) == (free[: free.find(stop)], "stop") == (plain.text, plain.finish)
    assert answer.completion.tokens == plain.completion.tokens


@EACH_DRAFTER
def test_a_constraint_is_kept(make, guess, name):
    pytest.importorskip("llguidance")
    for seed in range(3):
        sampling = SamplingConfig(seed=seed, constraint={"kind": "regex", "pattern": "(yes|no|yesno)"})
        said = make("decoder-only").generate("ab", max_tokens=20, sampling=sampling, speculation=guess(name))
        assert said in ("yes", "no", "yesno")


def test_a_conversation_is_answered_too(make, guess):
    model, talk = make("decoder-only", length=80), [{"role": "user", "content": "ab ab"}]
    plain = "".join(model.chat(talk, max_tokens=9, sampling=GREEDY))
    assert "".join(model.chat(talk, max_tokens=9, sampling=GREEDY, speculation=guess())) == plain


def test_a_draft_of_shorter_reach_guesses_less_and_shortens_nothing(make, guess):
    model = make("decoder-only", position="learned")
    speculation = guess("draft")
    object.__setattr__(speculation, "draft", make("decoder-only", position="learned", length=12).bundle)
    wish = Wish(max_tokens=30, sampling=GREEDY)
    ((plain,),), ((guessed,),) = model.complete(["ab"], wish), model.complete(["ab"], wish, speculation=speculation)
    assert guessed.completion.tokens == plain.completion.tokens
    assert len(guessed.completion.tokens) > 12


def test_a_stream_that_is_closed_has_ended(make, guess):
    speculation = guess()
    stream = make("decoder-only").stream("ab", sampling=SamplingConfig(seed=1), speculation=speculation)
    next(stream)
    assert speculation.statistics.answers == 0
    stream.close()
    assert (speculation.statistics.requests, speculation.statistics.answers) == (1, 1)


def test_a_deadline_ends_an_answer(make, guess):
    model = make("decoder-only")
    seconds = iter(range(1_000))
    model.completer.engine.clock = lambda: float(next(seconds))
    wish = Wish(max_tokens=30, sampling=GREEDY, deadline=9.0)
    ((answer,),) = model.complete(["ab"], wish, speculation=guess())
    assert answer.finish == "deadline"
    assert len(answer.completion.tokens) < 30


def test_what_does_not_go_together_is_refused(make, guess):
    model, sampling = make("decoder-only"), SamplingConfig(seed=1)
    with pytest.raises(ModelError, match="one answer at a time; found n 2; ask for one answer"):
        model.complete(["ab"], Wish(n=2, sampling=sampling), speculation=guess())
    with pytest.raises(ModelError, match="an encoder-only model continues no text"):
        make("encoder-only").generate("ab", speculation=guess())
    with pytest.raises(ModelError, match="no model to draft with"):
        model.generate("ab", speculation=Speculation(config=SpeculationConfig(drafter=Choice(kind="draft"))))
    with pytest.raises(ModelError, match="lookup has no use of a draft model"):
        model.generate("ab", speculation=Speculation(draft=make("decoder-only").bundle))
    with pytest.raises(ModelError, match="the draft model reads a source"):
        model.generate("ab", speculation=guess("draft", "encoder-decoder"))
    with pytest.raises(ModelError, match=r"an encoder-only model writes nothing; found the draft model"):
        model.generate("ab", speculation=guess("draft", "encoder-only"))
    with pytest.raises(DataError, match="the prompt is longer than the context; found 91 tokens"):
        model.generate("a" * 90, speculation=guess())
    with pytest.raises(ModelError, match="cannot go back in a text; found stack gru"):
        make("decoder-only", stack="gru").generate("ab", speculation=guess())


def test_a_draft_with_other_words_is_refused(make, guess):
    model, speculation = make("decoder-only"), guess("draft")
    other = ByteKind(extra_tokens=("<more>",)).train()
    speculation.draft.source = speculation.draft.target = other
    with pytest.raises(ModelError, match=r"another target vocabulary; found '<more>' .*; take a model with the same"):
        model.generate("ab", speculation=speculation)


def test_a_failed_answer_is_an_error_or_says_so(make, guess):
    model = make("decoder-only")
    with torch.no_grad():
        model.bundle.model.output.fill_(torch.nan)
    with pytest.raises(ModelError, match="the answer failed; found the model's logits are not numbers"):
        model.generate("ab", speculation=guess())
    ((answer,),) = model.complete(["ab"], Wish(), speculation=guess())
    assert (answer.finish, answer.completion.first_token_seconds) == ("failed", None)
    assert isinstance(model, Model)
