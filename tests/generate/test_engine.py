"""The engine does what it is asked and tells what it did; mistakes and failures harm nobody."""

import pytest
import torch
from engine_parts import BOS, EOS, EXACT, GREEDY, KINDS, engine, fits, next_logits, requests, sharp, tokens
from pydantic import ValidationError

from clearhead.core.errors import DataError, ModelError
from clearhead.generate.engine import Engine, EngineConfig
from clearhead.generate.request import BusyError, Request
from clearhead.generate.sampling import SamplingConfig
from clearhead.generate.scheduler import Limits

EACH_KIND = pytest.mark.parametrize("kind", KINDS)
EACH_CACHE = pytest.mark.parametrize("cache", EXACT)


@pytest.fixture
def make(tiny):
    """A function from a kind to a model whose tokens are not all alike."""
    return lambda kind="decoder-only", **changes: sharp(tiny, kind, **changes)


@EACH_KIND
def test_greedy_takes_the_largest_logit_again_and_again(make, kind):
    model = make(kind)
    for prompt in ([BOS], [BOS, 7, 8]):
        source = [5, 9, 4] if kind == "encoder-decoder" else None
        expected = list(prompt)
        for _ in range(12):
            logits = next_logits(model, expected, source)
            if source:
                logits = logits.index_fill(0, torch.tensor(0), -torch.inf)  # padding is no answer
            expected.append(int(logits.argmax()))
            if expected[-1] == EOS:
                break
        request = Request(prompt=prompt, source=source, sampling=GREEDY, max_tokens=12)
        (((found,),),) = [engine(model).generate([request])]
        assert found.tokens == [each for each in expected[len(prompt) :] if each != EOS]
        assert found.finish == ("stop" if expected[-1] == EOS else "length")


def test_requests_that_come_while_others_grow_change_nothing(make):
    model = make()
    asked = requests(model)
    alone = [tokens(engine(model).generate([each]))[0] for each in asked]
    served, found, numbers = engine(model, rows=4), {}, {}
    for at in range(200):
        if at % 3 == 0 and at // 3 < len(asked):
            numbers[served.submit(asked[at // 3])] = at // 3
        for event in served.step():
            answers = found.setdefault(numbers[event.request], {})
            if event.token is not None:
                answers.setdefault(event.answer, []).append(event.token)
    assert not served.busy
    assert [[found[at].get(n, []) for n in range(asked[at].n)] for at in range(len(asked))] == alone


def test_log_probabilities_are_those_of_the_model(make):
    model = make()
    request = Request(prompt=[BOS, 4], sampling=SamplingConfig(seed=1, top_k=3), max_tokens=6, log_probabilities=2)
    ((found,),) = engine(model).generate([request])
    text = [BOS, 4]
    for token, value, top in zip(found.tokens, found.log_probabilities, found.top, strict=True):
        expected = next_logits(model, text).log_softmax(0)
        assert value == pytest.approx(float(expected[token]), abs=1e-4)
        assert [each for each, _ in top] == expected.topk(2).indices.tolist()
        text.append(token)


def test_a_stop_token_ends_an_answer_and_is_no_part_of_it(make):
    model = make()
    plain = Request(prompt=[BOS, 5], sampling=SamplingConfig(seed=4), max_tokens=20)
    ((free,),) = engine(model).generate([plain])
    stop = next(each for each in free.tokens[3:] if each not in free.tokens[:3])
    ((found,),) = engine(model).generate([plain.model_copy(update={"stop": (stop,)})])
    assert found.finish == "stop"
    assert found.tokens == free.tokens[: free.tokens.index(stop)]


def test_answers_end_where_the_context_does(make):
    model = make(position="learned", length=12)
    ((found,),) = engine(model).generate([Request(prompt=[BOS] * 9, sampling=SamplingConfig(seed=1, bad_words=[[2]]))])
    assert (len(found.tokens), found.finish) == (4, "length")  # the last one is not read any more
    ((found,),) = engine(model).generate([Request(prompt=[BOS] * 12, sampling=SamplingConfig(bad_words=[[2]]))])
    assert (len(found.tokens), found.finish) == (1, "length")


def test_streams_tell_every_event_and_a_closed_one_cancels(make):
    served = engine(make())
    sampling = SamplingConfig(seed=1, bad_words=[[EOS]])
    first = served.submit(Request(prompt=[BOS], sampling=sampling, max_tokens=9))
    second = served.submit(Request(prompt=[BOS, 3], sampling=sampling, max_tokens=30))
    served.step()
    events = list(served.stream(first))
    assert len(events) == 9
    assert events[-1].finish == "length"
    stream = served.stream(second)
    assert next(stream).request == second
    stream.close()
    assert not served.scheduler.busy
    assert served.step()[-1].finish == "cancelled"
    assert served.blocks.held == 0
    with pytest.raises(DataError, match="no such request is on its way"):
        served.stream(second)


def test_a_cancelled_request_leaves_nothing_behind_and_harms_nobody(make):
    model = make("encoder-decoder")
    keep = Request(prompt=[BOS], source=[4, 5], sampling=GREEDY, max_tokens=12)
    alone = tokens(engine(model).generate([keep]))
    served = engine(model)
    gone = served.submit(Request(prompt=[BOS], source=[7, 8], n=3, max_tokens=12, sampling=SamplingConfig(seed=3)))
    waiting = served.submit(keep)
    served.step()
    assert served.cancel(gone)
    assert not served.cancel(gone)
    answers = served.record(waiting).completions
    finishes = [event.finish for event in served.stream(waiting)]
    assert finishes[-1] in ("stop", "length")
    assert tokens([answers]) == alone
    assert served.blocks.held == 0
    assert not served.runner.sources.rows.order


def test_a_deadline_ends_what_runs_and_what_waits(make):
    now = [0.0]
    limits = Limits(rows=1, step_tokens=20)
    served = Engine(make(), EngineConfig(limits=limits), eos=None, clock=lambda: now[0])
    numbers = [served.submit(Request(prompt=[BOS], deadline=5.0, max_tokens=40)) for _ in range(2)]
    served.step()
    now[0] = 6.0
    events = served.step()
    assert {each.request for each in events if each.finish == "deadline"} == set(numbers)
    assert not served.busy


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prompt": []}, "the prompt is empty"),
        ({"prompt": [BOS, 23]}, "the prompt has an unknown token; found 23; expected 0 to 22"),
        ({"prompt": [BOS] * 49}, "the prompt is longer than the context; found 49 tokens; expected at most 48"),
        ({"stop": [99]}, "the stop has an unknown token; found 99"),
        ({"source": [4]}, "it is decoder-only; leave source out"),
    ],
)
def test_what_can_never_be_served_is_refused(make, changes, complaint):
    served = engine(make())
    with pytest.raises(DataError, match=complaint):
        served.submit(Request(**{"prompt": [BOS], **changes}))
    assert not served.busy


def test_a_refusal_among_many_leaves_nothing_behind(make):
    served = engine(make())
    with pytest.raises(DataError):
        served.generate([Request(prompt=[BOS], max_tokens=9), Request(prompt=[99])])
    assert not served.scheduler.busy


@pytest.mark.parametrize("source", [None, [], [23], [4] * 40])
def test_sources_that_cannot_be_read_are_refused(make, source):
    with pytest.raises(DataError, match=r"pass source=|source is empty|unknown token|source is longer"):
        engine(make("encoder-decoder")).submit(Request(prompt=[BOS], source=source))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": -3},
        {"n": 0},
        {"prompt": [-1]},
        {"deadline": 0},
        {"log_probabilities": -1},
        {"n": 2, "sampling": GREEDY},
        {"sampling": {"temperature": 0.0, "top_p": 0.5}},
        {"tokens": 3},
    ],
)
def test_contradictory_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        Request(**{"prompt": [BOS], **wrong})


def test_a_step_has_room_for_the_longest_source_unless_it_was_limited(make):
    model = make("encoder-decoder", length=1500)
    request = Request(prompt=[BOS], source=[4] * 1500, max_tokens=1)
    assert Engine(model).generate([request])[0][0].finish == "length"
    with pytest.raises(DataError, match="expected at most 968"):
        Engine(model, EngineConfig(limits=Limits(step_tokens=1000))).submit(request)


def test_tokens_that_sampling_names_must_be_known(make):
    with pytest.raises(ModelError, match="unknown token"):
        engine(make()).submit(Request(prompt=[BOS], sampling=SamplingConfig(logit_bias={99: 1.0})))


def test_more_requests_than_the_line_holds_are_refused_and_than_memory_are_queued(make):
    served = Engine(make(), EngineConfig(limits=Limits(rows=2, step_tokens=20, waiting=3), block=3, blocks=4), eos=EOS)
    with pytest.raises(DataError, match="longer than the memory that the engine has; found 13 tokens"):
        served.submit(Request(prompt=[BOS] * 13))
    for _ in range(3):
        served.submit(Request(prompt=[BOS] * 10))
    with pytest.raises(BusyError, match="ask again later"):
        served.submit(Request(prompt=[BOS]))
    while served.busy:
        served.step()
    assert served.statistics.answers == 3
    assert len(served.generate([Request(prompt=[BOS], max_tokens=2)] * 10)) == 10  # generate waits by itself


@EACH_CACHE
def test_numbers_that_are_none_end_only_their_own_request(make, cache):
    model, endless = make(position="learned", **fits(cache)), SamplingConfig(seed=1, bad_words=[[EOS]])
    asked = [Request(prompt=[BOS, 3], sampling=GREEDY, max_tokens=8)]
    asked += [Request(prompt=[BOS, 4] * 6, max_tokens=8, sampling=endless)]
    alone = tokens(engine(model).generate(asked[:1]))
    with torch.no_grad():
        model.decoder.embedding_sum.position.table[13:] = torch.nan  # the second request gets there, the first does not
    served = engine(model, cache, blocks=10)
    for order in (asked, asked[::-1], asked, asked[::-1]):  # what the failed one leaves behind is used again
        found = served.generate(order)
        for request, (each,) in zip(order, found, strict=True):
            if request is asked[0]:
                assert [[each.tokens]] == alone
            else:
                assert each.finish == "failed"
                assert "logits are not numbers" in each.error


def test_a_step_that_breaks_ends_what_runs_and_the_engine_goes_on(make, monkeypatch):
    model = make()
    request = Request(prompt=[BOS, 3], sampling=GREEDY, max_tokens=5)
    alone = tokens(engine(model).generate([request]))
    served = engine(model, "paged")
    number = served.submit(request)
    served.step()
    with monkeypatch.context() as patch:
        patch.setattr(model, "decode", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("out of memory")))
        events = served.step()
    assert [(each.request, each.finish) for each in events] == [(number, "failed")]
    assert "out of memory" in events[0].error
    assert served.blocks.held == 0
    assert tokens(served.generate([request])) == alone


def test_a_failing_constraint_ends_only_its_own_request(make):
    forbidden = SamplingConfig(temperature=0.0, bad_words=[[each] for each in range(23)])
    asked = [Request(prompt=[BOS], sampling=forbidden), Request(prompt=[BOS], sampling=GREEDY, max_tokens=4)]
    failed, fine = engine(make()).generate(asked)
    assert failed[0].finish == "failed"
    assert "forbidden" in failed[0].error
    assert fine[0].finish in ("stop", "length")


def test_statistics_count(make):
    served = engine(make(), "paged")
    asked = [Request(prompt=[BOS, 4, 5, 6], sampling=SamplingConfig(bad_words=[[EOS]]), max_tokens=5, n=2)] * 2
    served.generate(asked)
    done = served.statistics
    assert (done.requests, done.answers, done.answered, done.chosen_tokens) == (2, 4, 4, 20)
    assert done.read_tokens == 8
    assert (done.load.running, done.load.waiting, done.load.blocks_held) == (0, 0, 0)
    assert done.load.most_blocks_held > 4
    assert done.tokens_per_second > 0
    assert done.mean_first_token_seconds > 0
    assert done.load.cache_bytes > 0


def test_a_text_that_begins_as_an_earlier_one_is_read_from_there_on(make):
    model = make()
    first = Request(prompt=[BOS, *range(3, 15)], sampling=GREEDY, max_tokens=5)
    ((answer,),) = engine(model).generate([first])
    text = [*first.prompt, *answer.tokens, 9, 9]
    second = Request(prompt=text, sampling=GREEDY, max_tokens=5)
    served = engine(model, "paged")
    served.generate([first])
    before = served.statistics.read_tokens
    found = served.generate([second])
    assert served.statistics.read_tokens - before < 8
    assert tokens(found) == tokens(engine(model).generate([second]))


def test_models_that_continue_no_text_are_refused(tiny):
    with pytest.raises(ModelError, match="continues no text"):
        Engine(tiny(decoder_layers=0))
    with pytest.raises(ModelError, match=r"call model\.eval\(\) first"):
        Engine(tiny(encoder_layers=0).train())
    with pytest.raises(ModelError, match="positions do not reach so far"):
        Engine(tiny(encoder_layers=0, position="learned"), EngineConfig(context=17))


@pytest.mark.parametrize("how", ["whole", "autocast"])
@EACH_CACHE
@EACH_KIND
def test_bfloat16_is_served_too(make, how, cache, kind):
    model = make(kind, **fits(cache))
    model = model.to(torch.bfloat16) if how == "whole" else model
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        found = engine(model, cache, blocks=17).generate(requests(model))
    assert all(each.finish in ("stop", "length") for answers in found for each in answers)


def test_eight_bit_keys_seldom_change_a_token(make):
    model = make(d_model=32)
    asked = [Request(prompt=[BOS, at], sampling=GREEDY, max_tokens=20) for at in range(3, 23)]
    exact, rounded = (tokens(engine(model, cache).generate(asked)) for cache in ("dense", "int8"))
    same = sum(one == two for (one,), (two,) in zip(exact, rounded, strict=True))
    assert same >= 14
