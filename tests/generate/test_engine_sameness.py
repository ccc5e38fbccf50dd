"""A request gets the same tokens alone, in any batch, with any exact cache, preempted or not."""

import random

import pytest
import torch
from engine_parts import BOS, EOS, EXACT, GREEDY, KINDS, engine, fits, requests, sharp, tokens

from clearhead.generate import SearchConfig, search
from clearhead.generate.request import Request
from clearhead.model.attention import ATTENTIONS
from clearhead.model.position import POSITIONS

EACH_KIND = pytest.mark.parametrize("kind", KINDS)
EACH_CACHE = pytest.mark.parametrize("cache", EXACT)


@pytest.fixture
def make(tiny):
    """A function from a kind to a model whose tokens are not all alike."""
    return lambda kind="decoder-only", **changes: sharp(tiny, kind, **changes)


@EACH_KIND
@EACH_CACHE
def test_a_request_gets_the_same_tokens_however_it_is_served(make, kind, cache):
    model = make(kind, **fits(cache))
    asked = requests(model)
    alone = [tokens(engine(model).generate([each]))[0] for each in asked]
    assert len({str(each) for each in alone}) == len(asked)
    assert tokens(engine(model, cache).generate(asked)) == alone
    assert tokens(engine(model, cache, rows=3, step_tokens=12).generate(asked)) == alone
    served = engine(model, cache, blocks=17)  # of 3 tokens each: memory for little more than one
    assert tokens(served.generate(asked)) == alone
    assert served.statistics.preemptions > 0
    assert served.statistics.load.blocks_held == 0
    assert tokens(served.generate(asked[::-1])) == alone[::-1]  # after others have used every block


@pytest.mark.parametrize("name", POSITIONS.names())
@EACH_KIND
def test_every_position_scheme_is_served(make, name, kind):
    model = make(kind, position=name)
    asked = requests(model, 4)
    alone = [tokens(engine(model).generate([each]))[0] for each in asked]
    for cache in ("dense", "paged"):
        assert tokens(engine(model, cache, rows=3, step_tokens=20).generate(asked)) == alone


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", [each for each in ATTENTIONS.names() if ATTENTIONS.get(each).any_mask])
@EACH_KIND
def test_every_attention_is_served(make, name, kind):
    model = make(kind, attention=name, cross_attention="dot", position="learned", kv_heads=None)
    asked = requests(model, 4)
    alone = [tokens(engine(model).generate([each]))[0] for each in asked]
    for cache in ("dense", "paged"):
        assert tokens(engine(model, cache, rows=3, step_tokens=20).generate(asked)) == alone


@pytest.mark.usefixtures("double")  # float32 rounds by batch, and tokens may be nearly as probable
@pytest.mark.parametrize(
    "changes",
    [
        {"layer_groups": 1},
        {"feedforward": "mixture"},
        {"projections": "shared_qk", "kv_heads": None},
        {"residual": "deepnorm"},
        {"stack": "convolution", "kv_heads": None},
        {"stack": "lstm", "kv_heads": None},
        {"embedding": {"kind": "factorised", "width": 5}, "tie": "none"},
    ],
    ids=str,
)
@EACH_KIND
def test_models_of_other_parts_are_served(make, changes, kind):
    model = make(kind, **changes)
    asked = requests(model, 4)
    alone = [tokens(engine(model).generate([each]))[0] for each in asked]
    assert tokens(engine(model, rows=3, step_tokens=20).generate(asked)) == alone
    assert tokens(engine(model, blocks=17).generate(asked)) == alone


@pytest.mark.parametrize("name", POSITIONS.names())
def test_greedy_is_the_search_with_one_beam(make, name):
    model = make("encoder-decoder", position=name)
    sources = [torch.randint(3, 23, (length,)).tolist() for length in (1, 7, 3, 12)]
    settings = SearchConfig(beams=1, length_factor=0.0, length_extra=14)
    expected = [found[0].tokens for found in search(model, sources, settings, bos=BOS, eos=EOS)]
    asked = [Request(prompt=[BOS], source=each, sampling=GREEDY, max_tokens=14) for each in sources]
    assert tokens(engine(model, rows=3).generate(asked)) == [[each] for each in expected]


@pytest.mark.parametrize("seed", range(2))
@EACH_CACHE
@EACH_KIND
def test_random_arrivals_and_cancellations_change_nobodys_tokens(make, kind, cache, seed):
    model, draw = make(kind, **fits(cache)), random.Random(seed)
    asked = requests(model, 9)
    alone = [tokens(engine(model).generate([each]))[0] for each in asked]
    served = engine(model, cache, rows=6, step_tokens=draw.choice([16, 30]), blocks=13)
    records = []
    for at in range(400):
        if at < 60 and draw.random() < 0.4:
            index = draw.randrange(len(asked))
            records.append((index, served.record(served.submit(asked[index]))))
        if records and draw.random() < 0.05:
            _, record = draw.choice(records)
            served.cancel(record.number, draw.choice([None, 0]))
        served.step()
    assert not served.busy
    assert served.statistics.preemptions > 0
    assert served.blocks.held == 0
    assert not served.runner.cache.order
    assert not served.runner.sources.rows.order
    for index, record in records:
        for answer, expected in zip(record.completions, alone[index], strict=True):
            if answer.finish == "cancelled":
                assert answer.tokens == expected[: len(answer.tokens)]
            else:
                assert answer.tokens == expected
