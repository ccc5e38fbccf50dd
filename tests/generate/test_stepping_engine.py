"""The engine on a packed model: the same tokens as on the model itself, with every cache, alone and among others."""

from types import SimpleNamespace

import pytest
from engine_parts import EXACT, KINDS, engine, fits, requests, sharp, tokens

from clearhead.core.registry import Choice
from clearhead.model.packing import packed
from clearhead.model.packing.library import library, why_not
from clearhead.model.packing.stepping import Stepping
from clearhead.model.position import POSITIONS

pytestmark = pytest.mark.skipif(library() is None, reason=f"no compiled step: {why_not()}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cache", EXACT)
def test_a_packed_model_is_served_as_the_model_is(tiny, kind, cache):
    model = sharp(tiny, kind, **fits(cache))
    reader, asked = packed(model), requests(model)
    alone = [tokens(engine(model).generate([each]))[0] for each in asked]
    assert isinstance(reader.decoder, Stepping)
    assert tokens(engine(reader, cache).generate(asked)) == alone
    assert tokens(engine(reader, cache, rows=3, step_tokens=12).generate(asked)) == alone
    served = engine(reader, cache, blocks=17)
    assert tokens(served.generate(asked)) == alone
    assert served.statistics.preemptions > 0
    assert tokens(served.generate(asked[::-1])) == alone[::-1]


@pytest.mark.parametrize("name", POSITIONS.names())
@pytest.mark.parametrize("cache", ["dense", "paged"])
def test_every_position_scheme_is_served(tiny, name, cache):
    model = sharp(tiny, "decoder-only", position=name)
    asked = requests(model, 4)
    alone = [tokens(engine(model).generate([each]))[0] for each in asked]
    assert tokens(engine(packed(model), cache, rows=3, step_tokens=20).generate(asked)) == alone


@pytest.mark.parametrize("cache", EXACT)
def test_int8_weights_give_a_text_the_same_tokens_alone_and_among_others(tiny, cache):
    reader = packed(sharp(tiny, "decoder-only", **fits(cache)), Choice(kind="int8"))
    asked = requests(reader)
    alone = [tokens(engine(reader, cache).generate([each]))[0] for each in asked]
    assert tokens(engine(reader, cache).generate(asked)) == alone


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cache", ["dense", "paged"])
def test_every_step_of_the_engine_is_a_compiled_one(tiny, kind, cache, monkeypatch):
    reader, calls = packed(sharp(tiny, kind)), []
    usual = reader.decoder.library.clearhead_step
    counted = SimpleNamespace(
        clearhead_work=reader.decoder.library.clearhead_work,
        clearhead_embed=reader.decoder.library.clearhead_embed,
        clearhead_step=lambda *told: (calls.append(1), usual(*told)),
    )
    monkeypatch.setattr(reader.decoder, "library", counted)
    served = engine(reader, cache)
    served.submit(requests(reader, 1)[0].model_copy(update={"max_tokens": 9, "n": 1}))
    steps = 0
    while served.step():
        steps += 1
    assert steps - 2 <= len(calls) <= steps
    assert len(calls) >= 3
