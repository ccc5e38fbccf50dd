"""Searches find what plain enumeration finds, batched or not, cached or not, and keep their promises."""

from collections.abc import Callable

import pytest
import torch
from by_hand import BOS, EOS, PAD, beam, exhaustive, greedy, log_probability, penalty
from pydantic import ValidationError

from clearhead.core.errors import ModelError
from clearhead.generate import Hypothesis, SearchConfig, search, search_all
from clearhead.model import Transformer
from clearhead.model.position import POSITIONS

pytestmark = pytest.mark.usefixtures("double")

SMALL = 5  # tokens: padding, begin, end and two words
EACH_PENALTY = pytest.mark.parametrize(
    ("kind", "alpha"), [("average", a) for a in (0.0, 0.6, 1.0, 2.0)] + [("gnmt", a) for a in (0.0, 0.6, 1.0)]
)


@pytest.fixture
def decided(tiny) -> Callable[..., Transformer]:
    """A function from a vocabulary size to a random model that is sure of itself, and eager to end if wanted."""

    def make(vocab: int = SMALL, eagerness: float = 0.0, **changes: object) -> Transformer:
        model = tiny(source_vocab=vocab, target_vocab=vocab, **{"tie": "none", **changes})
        plain, more = model.logits, eagerness * (torch.arange(vocab) == EOS)
        model.logits = lambda hidden: 2.5 * plain(hidden) + more
        return model

    return make


def sources(vocab: int, lengths: list[int]) -> list[list[int]]:
    return [torch.randint(1, vocab, (length,)).tolist() for length in lengths]


def run(model: Transformer, inputs: list[list[int]], config: SearchConfig) -> list[list[Hypothesis]]:
    return search(model, inputs, config, bos=BOS, eos=EOS)


def settings(**changes: object) -> SearchConfig:
    return SearchConfig(**{"length_factor": 0.5, "length_extra": 3, **changes})


@EACH_PENALTY
def test_a_beam_as_wide_as_the_world_finds_the_best_of_all(decided, kind, alpha):
    model, inputs = decided(), sources(SMALL, [1, 3])
    config = settings(length_factor=0.0, length_extra=4, beams=90, n_best=20, penalty=kind, length_penalty=alpha)
    for source, found in zip(inputs, run(model, inputs, config), strict=True):
        expected = exhaustive(model, source, config)
        assert len(expected) == 1 + 3 + 9 + 27 + 81
        assert [each.tokens for each in found] == [each.shown for each in expected[:20]]
        for each, wanted in zip(found, expected, strict=False):
            assert each.score == pytest.approx(wanted.score, abs=1e-10)
            assert each.log_probability == pytest.approx(wanted.total, abs=1e-10)


@EACH_PENALTY
@pytest.mark.parametrize("beams", [2, 3, 5])
@pytest.mark.parametrize("eagerness", [0.0, 1.0, 2.0, 3.0])
def test_a_narrow_beam_finds_what_the_plain_search_finds(decided, kind, alpha, beams, eagerness):
    torch.manual_seed(int(100 * alpha + 10 * eagerness + beams))
    model, inputs = decided(vocab=11, eagerness=eagerness), sources(11, [1, 4, 5, 8])
    config = settings(beams=beams, n_best=beams, penalty=kind, length_penalty=alpha)
    for source, found in zip(inputs, run(model, inputs, config), strict=True):
        expected = beam(model, source, config)
        assert [each.tokens for each in found] == [each.shown for each in expected]
        assert [each.score for each in found] == pytest.approx([each.score for each in expected], abs=1e-10)


def test_greedy_takes_the_most_probable_token_at_each_step(decided):
    lengths, inputs = set(), sources(11, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    for seed in range(4):
        torch.manual_seed(seed)
        model = decided(vocab=11)
        for source, (found,) in zip(inputs, run(model, inputs, settings()), strict=True):
            expected = greedy(model, source, settings())
            assert found.tokens == [each for each in expected if each != EOS]
            lengths.add((len(found.tokens), EOS in expected))
    assert len(lengths) > 5  # sources finish at different steps, some by the end of sentence


@pytest.mark.parametrize("name", POSITIONS.names())
@pytest.mark.parametrize("beams", [1, 4])
def test_cached_decoding_is_the_teacher_forced_model(decided, name, beams):
    model, inputs = decided(vocab=7, eagerness=3.0, position=name, kv_heads=1), sources(7, list(range(1, 13)))
    config = settings(beams=beams, n_best=beams)
    ended = 0
    for source, found in zip(inputs, run(model, inputs, config), strict=True):
        for each in found:
            whole = [each.tokens, [*each.tokens, EOS]]
            cut = len(each.tokens) == config.limit(len(source))
            ended += not cut
            assert each.log_probability == pytest.approx(log_probability(model, source, whole[not cut]), abs=1e-10)
            assert each.score == each.log_probability / penalty(config, len(whole[not cut]))
    assert ended


@pytest.mark.parametrize("name", POSITIONS.names())
@pytest.mark.parametrize("beams", [1, 4])
def test_a_batch_is_its_sources(decided, name, beams):
    model, inputs = decided(vocab=11, position=name), sources(11, [9, 1, 4, 4, 7, 2, 12])
    config = settings(beams=beams, n_best=beams)
    together = run(model, inputs, config)
    everything = search_all(model, inputs, config, bos=BOS, eos=EOS, budget=20)
    for source, found, also in zip(inputs, together, everything, strict=True):
        (alone,) = run(model, [source], config)
        assert [each.tokens for each in found] == [each.tokens for each in also] == [each.tokens for each in alone]
        for one, two in zip(found, alone, strict=True):
            assert one.score == pytest.approx(two.score, abs=1e-10)


def test_progress_counts_every_source(decided):
    seen: list[int] = []
    search_all(decided(), sources(SMALL, [3, 1, 2]), settings(), bos=BOS, eos=EOS, budget=3, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 3


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("extra", [1, 2, 6])
def test_what_never_ends_is_cut_off_at_its_limit(decided, beams, extra):
    model, inputs = decided(vocab=11), sources(11, [1, 4, 8])
    config = settings(length_factor=0.5, length_extra=extra, beams=beams, n_best=beams)
    never = 11  # an id that the model does not have
    for source, found in zip(inputs, search(model, inputs, config, bos=BOS, eos=never), strict=True):
        assert [len(each.tokens) for each in found] == [len(source) // 2 + extra] * beams


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("extra", [1, 2, 6])
def test_no_target_is_longer_than_its_limit(decided, beams, extra):
    model, inputs = decided(vocab=11), sources(11, [1, 4, 8])
    config = settings(length_factor=0.0, length_extra=extra, beams=beams, n_best=beams)
    for found in run(model, inputs, config):
        assert len(found) == beams
        assert all(len(each.tokens) <= extra for each in found)


def test_a_target_stops_where_the_position_table_ends(decided):
    model = decided(vocab=11, position="learned", length=6)
    found = run(model, sources(11, [6, 5, 1]), SearchConfig(beams=3, length_factor=5.0))
    assert all(1 <= len(each.tokens) + 1 <= 7 for (each,) in found)


def test_results_come_best_first_without_repetition(decided):
    for found in run(decided(vocab=11), sources(11, [1, 5, 9]), settings(beams=5, n_best=5)):
        scores = [each.score for each in found]
        assert len(found) == 5
        assert scores == sorted(scores, reverse=True)
        assert len({(tuple(each.tokens), each.log_probability) for each in found}) == 5


def test_a_better_beam_is_never_a_worse_result_than_no_search(decided):
    model, inputs = decided(vocab=11), sources(11, [1, 3, 5, 7])
    wide = run(model, inputs, settings(beams=200, length_factor=0.0))
    for narrow in (1, 2, 4):
        for (best,), (other,) in zip(wide, run(model, inputs, settings(beams=narrow, length_factor=0.0)), strict=True):
            assert best.score >= other.score - 1e-10


def test_a_world_smaller_than_n_best_gives_all_there_is(decided):
    config = settings(length_factor=0.0, length_extra=1, beams=50, n_best=50)
    (found,) = run(decided(), sources(SMALL, [2]), config)
    assert len(found) == SMALL - 1
    assert sum(torch.tensor(each.log_probability).exp().item() for each in found) == pytest.approx(1.0)


def test_padding_is_never_chosen_even_where_it_is_most_probable(decided):
    model = decided(vocab=11)
    with torch.no_grad():
        model.output[PAD] *= 50
    found = run(model, sources(11, [1, 4, 7]), settings(beams=4, n_best=4))
    assert all(PAD not in each.tokens for hypotheses in found for each in hypotheses)


def test_an_end_of_sentence_that_is_also_padding_still_ends(decided):
    model = decided(vocab=11, pad=EOS)
    lengths = [len(each.tokens) for (each,) in run(model, sources(11, [2] * 20), settings(length_extra=30, beams=2))]
    assert min(lengths) < 30


def test_no_sources_give_no_results(decided):
    assert run(decided(), [], settings()) == []
    assert search_all(decided(), [], settings(), bos=BOS, eos=EOS) == []


def test_a_source_of_one_token_is_enough(decided):
    (found,) = run(decided(), [[EOS]], settings(beams=3, n_best=3))
    assert len(found) == 3


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("how", ["whole", "autocast"])
def test_bfloat16_searches_too(decided, beams, how):
    torch.set_default_dtype(torch.float32)
    model, inputs = decided(vocab=11), sources(11, [1, 4, 7])
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        rounded = run(model.to(torch.bfloat16) if how == "whole" else model, inputs, settings(beams=beams))
    for (each,) in rounded:
        assert -torch.inf < each.score < 0.0


def test_a_search_leaves_the_model_as_it_was(decided):
    model = decided()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    run(model, sources(SMALL, [2, 5]), settings(beams=3))
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    model(torch.tensor([[1, 2]]), torch.tensor([[1]])).sum().backward()


def test_mistakes_are_told_in_one_line(decided):
    model = decided()
    with pytest.raises(ModelError, match=r"call model\.eval\(\) first"):
        run(model.train(), [[3]], settings())
    with pytest.raises(ModelError, match="a source has no tokens; found source 1"):
        run(model.eval(), [[3], []], settings())
    with pytest.raises(ValidationError, match="n_best 3, beams 2; set beams to 3 or more"):
        SearchConfig(beams=2, n_best=3)
    with pytest.raises(ValidationError, match="number"):
        SearchConfig(length_penalty=float("nan"))
    with torch.no_grad():
        model.output.fill_(torch.nan)
    with pytest.raises(ModelError, match="logits are not numbers"):
        run(model, [[3], [4]], settings(beams=2))
