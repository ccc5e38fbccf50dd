"""Texts are continued as the model would, alone or many at once, whole or in pieces."""

import pytest
import torch

from clearhead.apply import Wish
from clearhead.apply.completing import opening
from clearhead.core.errors import ConfigError, DataError, ModelError, TokenizerError
from clearhead.generate import SamplingConfig
from clearhead.text import NO_TOKENIZER

GREEDY = SamplingConfig(temperature=0.0)
TEXTS = ["ab", "", "你好", "a longer text", " ", "é😀", "ab"]


def drawn(seed=3):
    return SamplingConfig(seed=seed)


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
def test_many_at_once_are_continued_as_one_by_one(make, kind):
    model = make(kind)
    wish = Wish(max_tokens=7, sampling=drawn())
    together = [each.text for (each,) in model.complete(TEXTS, wish)]
    assert together == [model.generate(each, max_tokens=7, sampling=drawn()) for each in TEXTS]
    assert together[0] == together[6]
    assert len(set(together)) > 3
    assert model.complete([], wish) == []


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
def test_greedy_is_the_largest_logit_of_the_model(make, kind):
    model = make(kind)
    tokenizer, text = model.bundle.target, "abc"
    source = torch.tensor([[*tokenizer.encode(text), tokenizer.eos]]) if kind == "encoder-decoder" else None
    ids = [tokenizer.bos] if source is not None else [tokenizer.bos, *tokenizer.encode(text)]
    chosen = []
    for _ in range(6):
        logits = model.logits(torch.tensor([[*ids, *chosen]]), source)[0, -1].clone()
        if source is not None:
            logits[tokenizer.pad] = -torch.inf
        chosen.append(int(logits.argmax()))
        if chosen[-1] == tokenizer.eos:
            break
    assert model.generate(text, max_tokens=6, sampling=GREEDY) == tokenizer.decode(chosen)


def test_the_pieces_of_a_stream_are_the_text(make):
    model = make("decoder-only")
    pieces = list(model.stream("ab", max_tokens=20, sampling=drawn(5)))
    assert "".join(pieces) == model.generate("ab", max_tokens=20, sampling=drawn(5))
    assert len(pieces) > 3


def test_streams_at_the_same_time_do_not_take_each_others_words(make):
    model = make("decoder-only")
    alone = [model.generate(each, max_tokens=9, sampling=drawn()) for each in ("ab", "xy")]
    streams = [model.stream(each, max_tokens=9, sampling=drawn()) for each in ("ab", "xy")]
    texts = ["", ""]
    while any(streams):
        for at, stream in enumerate(streams):
            piece = next(stream, None) if stream else None
            texts[at] += piece or ""
            streams[at] = stream if piece is not None else None
    assert texts == alone


def test_a_stream_that_is_closed_leaves_nothing_behind(make):
    model = make("decoder-only")
    stream = model.stream("ab", sampling=SamplingConfig(seed=1, bad_words=[[3]]))
    next(stream)
    assert model.completer.engine.scheduler.busy
    stream.close()
    assert not model.completer.engine.scheduler.busy


def test_a_stop_string_ends_an_answer_and_is_no_part_of_it(make):
    model = make("decoder-only")
    free = model.generate("ab", max_tokens=20, sampling=drawn(8))
    stop = free[3:6]
    assert free.find(stop) == 3
    assert model.generate("ab", max_tokens=20, sampling=drawn(8), stop=[stop, "never said"]) == free[:3]
    ((answer,),) = model.complete(["ab"], Wish(max_tokens=20, sampling=drawn(8), stop=[stop]))
    assert (answer.text, answer.finish) == (free[:3], "stop")
    assert not model.completer.engine.scheduler.busy


def test_all_answers_with_what_was_asked_of_them(make):
    wish = Wish(max_tokens=5, n=3, sampling=drawn(), log_probabilities=2)
    for answers in make("decoder-only").complete(["ab", "cd"], wish):
        assert len({each.text for each in answers}) > 1
        for each in answers:
            assert each.finish in ("stop", "length")
            assert len(each.completion.log_probabilities) == len(each.completion.tokens) == len(each.completion.top)
            assert each.completion.seconds >= each.completion.first_token_seconds > 0


def test_the_line_may_be_longer_than_the_engine_holds(make):
    model = make("decoder-only")
    limits = model.completer.engine.config.limits
    object.__setattr__(limits, "waiting", 3)
    seen = []
    answers = model.complete(["ab"] * 40, Wish(max_tokens=2, sampling=drawn()), progress=seen.append)
    assert len({each.text for (each,) in answers}) == 1
    assert seen[-1] == 40


def test_a_text_begins_as_in_training(make):
    model = make("decoder-only")
    assert opening(model.bundle) == [model.bundle.target.bos]
    model.bundle.history["architecture"] = "GPT2LMHeadModel"  # one that had no begin of a text
    assert opening(model.bundle) == []
    with pytest.raises(DataError, match="the prompt is empty"):
        model.generate("")


def test_a_constraint_on_text_is_kept(make):
    pytest.importorskip("llguidance")
    sampling = SamplingConfig(seed=1, constraint={"kind": "regex", "pattern": "(yes|no)"})
    assert make("decoder-only").generate("ab", max_tokens=20, sampling=sampling) in ("yes", "no")


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"max_tokens": 0}, "max_tokens: input should be greater than 0; found 0"),
        ({"max_tokens": -1}, "max_tokens: input should be greater than 0"),
        ({"stop": [""]}, "leave it out"),
        ({"stop": "END"}, r"pass \[text\]"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, wrong, complaint):
    with pytest.raises(ConfigError, match=complaint):
        make("decoder-only").generate("ab", **wrong)


def test_a_text_that_is_too_long_is_named_by_its_place(make):
    model = make("decoder-only")
    with pytest.raises(DataError, match="text 2: the prompt is longer than the context; found 91 tokens"):
        model.complete(["ab", "a" * 90])
    with pytest.raises(DataError, match=r"pass \[text\]"):
        model.complete("ab")
    with pytest.raises(DataError, match="the source is longer than the model was made for"):
        make("encoder-decoder").generate("a" * 90)


def test_models_that_write_nothing_say_so(make):
    with pytest.raises(ModelError, match="continues no text"):
        make("encoder-only").generate("ab")
    model = make("decoder-only")
    model.bundle.source = model.bundle.target = NO_TOKENIZER
    with pytest.raises(TokenizerError, match="came without a tokenizer"):
        model.generate("ab")


def test_a_failed_answer_is_an_error(make):
    model = make("decoder-only")
    with torch.no_grad():
        model.bundle.model.output.fill_(torch.nan)
    with pytest.raises(ModelError, match="logits are not numbers"):
        model.generate("ab")
