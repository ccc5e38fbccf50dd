"""Searches that write on by themselves find what they find step by step: every number, and every text."""

import ctypes

import numpy as np
import pytest
import torch

from clearhead.core.errors import ModelError
from clearhead.core.registry import Choice
from clearhead.generate import SearchConfig, search
from clearhead.generate.searches import Beam
from clearhead.generate.searches import writer as writing
from clearhead.model.packing import packed, structs
from clearhead.model.packing.library import library, why_not
from clearhead.model.recorder import recording

pytestmark = pytest.mark.skipif(library() is None, reason=f"no compiled step: {why_not()}")
STRUCTS = ["Matrix", "Norm", "Residual", "Attention", "Block", "Embedding", "Model", "Store", "Keys", "Call", "Search"]
SHAPES = [
    {},
    {"encoder_layers": 0},
    {"encoder_layers": 0, "position": "rope", "window": 4},
    {"encoder_layers": 0, "position": {"kind": "rope", "layout": "pairs"}, "kv_heads": 1, "residual": "pre"},
    {"position": "learned", "tie": "none", "head": {"kind": "lm", "bias": True, "scale": 0.3}},
    {"position": "none", "norm": "rmsnorm", "feedforward": "swiglu"},
]
SEARCHES = [
    {"beams": 1},
    {"beams": 1, "method": {"kind": "beam"}},
    {"beams": 3, "n_best": 3},
    {"beams": 5, "length_penalty": 1.5},
    {"beams": 4, "method": {"kind": "diverse", "groups": 2}},
    {"beams": 30, "n_best": 30, "max_tokens": 9},
    {"beams": 4, "method": "minimum_risk", "penalty": "gnmt", "n_best": 4},
]


def sources(count=7):
    random = torch.Generator().manual_seed(3)
    lengths = [5, 2, 9, 5, 1, 3, 4][:count]
    return [torch.randint(4, 23, (length,), generator=random).tolist() for length in lengths]


def stirred(tiny, **shape):
    """A model that is far from where it began, and not sure of anything."""
    torch.manual_seed(4)
    model = tiny(length=64, **shape)
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.3 * torch.randn_like(each))
    return model


def found(model, config, texts, eos):
    bos = 2 if model.config.encoder_layers else None
    return search(model, texts, config, bos=bos, eos=eos)


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("options", SEARCHES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_same_to_the_last_bit_as_step_by_step(tiny, shape, options, weights, monkeypatch):
    model = packed(stirred(tiny, **shape), Choice(kind=weights))
    config = SearchConfig.model_validate({"max_tokens": 40, **options})
    texts = sources(96 // config.beams)  # from 97 rows on the head is multiplied by PyTorch, step by step
    never_ends = found(model, config, texts, eos=3)
    eos = max(never_ends, key=lambda each: len(each[0].tokens))[0].tokens[7]  # now one does, among others
    together = found(model, config, texts, eos)
    alone = [found(model, config, [each], eos)[0] for each in texts]
    monkeypatch.setattr(writing, "MOST", 5)
    assert found(model, config, texts, eos) == together
    monkeypatch.setattr(model, "search", None)
    assert found(model, config, texts, eos) == together
    assert [found(model, config, [each], eos)[0] for each in texts] == alone
    assert options["beams"] > 4 or len({len(each[0].tokens) for each in together}) > 1


def test_a_recording_sees_every_step(tiny):
    model = packed(stirred(tiny, encoder_layers=0))
    config = SearchConfig(max_tokens=12)
    with recording(model) as seen:
        told = found(model, config, [[5, 6]], eos=3)
    assert told[0][0].tokens == found(model, config, [[5, 6]], eos=3)[0][0].tokens
    assert len(next(iter(seen.calls.values()))) == 12


@pytest.mark.parametrize("beams", [1, 3])
def test_a_text_ends_where_positions_end(tiny, beams):
    model = packed(stirred(tiny, encoder_layers=0, position="learned"))
    texts, config = [[4] * 50, [4] * 3], SearchConfig(beams=beams, max_tokens=100)
    expected = found(model, config, texts, eos=3)
    model.search = None
    assert found(model, config, texts, eos=3) == expected


def test_what_is_not_a_number_is_refused(tiny):
    model = stirred(tiny, encoder_layers=0)
    model.decoder.blocks[1].feedforward.outer.bias.data[0] = torch.nan
    for beams in (1, 3):
        with pytest.raises(ModelError, match="logits are not numbers"):
            found(packed(model), SearchConfig(beams=beams, max_tokens=9), [[5, 6]], eos=3)


def test_it_is_used(tiny, monkeypatch):
    model, steps = packed(stirred(tiny)), []
    advance = writing.Writer.advance
    monkeypatch.setattr(writing.Writer, "advance", lambda *given: steps.append(given) or advance(*given))
    found(model, SearchConfig(beams=3, max_tokens=30), sources()[:1], eos=3)
    assert not steps


@pytest.mark.parametrize("beams", [1, 3])
def test_forced_beginnings_count(tiny, beams, monkeypatch):
    model, config = packed(stirred(tiny)), SearchConfig(beams=beams, max_tokens=12)
    expected = search(model, sources(), config, bos=2, eos=3, forced=[7, 8])
    monkeypatch.setattr(model, "search", None)
    assert search(model, sources(), config, bos=2, eos=3, forced=[7, 8]) == expected


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("beams", [1, 3])
def test_threads_change_no_bit(tiny, beams, weights):
    model = packed(stirred(tiny, d_model=256, d_ff=1024, heads=4), Choice(kind=weights))
    config, threads, seen = SearchConfig(beams=beams, max_tokens=25), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            seen.append(found(model, config, sources(), eos=3))
    finally:
        torch.set_num_threads(threads)
    assert seen[0] == seen[1] == seen[2]


def test_a_search_with_rules_of_its_own_keeps_them(tiny):
    model, config = packed(stirred(tiny, encoder_layers=0)), SearchConfig(beams=3, max_tokens=12)
    [[usual]] = found(model, config, [[5, 6]], eos=3)

    class Picky(Beam):
        """Never this token."""

        def best(self, totals, logits, sums):
            totals, beams, tokens = super().best(totals, logits, sums)
            return np.where(tokens == usual.tokens[-1], -np.inf, totals), beams, tokens

    with torch.inference_mode():
        [[picked]] = Picky(config).run(writing.Writer(model, [[5, 6]], bos=None, eos=3), [12])
    assert usual.tokens[-1] not in picked.tokens


def test_what_it_does_not_know_is_searched_step_by_step(tiny):
    factored = {"kind": "factorised", "width": 8}
    for shape in ({"embedding": factored, "tie": "output"}, {"position": "alibi"}, {"attention": "additive"}):
        model = stirred(tiny, **shape)
        config = SearchConfig(max_tokens=9)
        told = [each[0].tokens for each in found(packed(model), config, sources(), eos=3)]
        assert told == [each[0].tokens for each in found(model, config, sources(), eos=3)]


def test_python_and_c_mean_the_same_structs():
    kinds = [getattr(structs, name) for name in STRUCTS]
    found = (ctypes.c_int64 * len(kinds))()
    library().clearhead_sizes(found)
    assert list(found) == [ctypes.sizeof(each) for each in kinds]
