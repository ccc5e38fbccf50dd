"""Every search, on both kinds of model that write, finds what plain loops find."""

import math
from collections.abc import Callable

import pytest
import torch
from plain_searches import BOS, EOS, beams, contrastive, every_text, look
from pydantic import ValidationError

from clearhead.core.errors import ModelError
from clearhead.generate import Hypothesis, SearchConfig, search, search_all
from clearhead.generate.searches import SEARCHES
from clearhead.generate.searches.scores import PENALTIES
from clearhead.model import Transformer
from clearhead.model.position import POSITIONS
from clearhead.model.stack import STACKS

pytestmark = pytest.mark.usefixtures("double")

KINDS = {"encoder-decoder": 2, "decoder-only": 0}  # encoder layers
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
EACH_SEARCH = pytest.mark.parametrize("name", SEARCHES.names())


@pytest.fixture
def writing(tiny) -> Callable[..., Transformer]:
    """A function from a kind of model to a random one that is sure of itself, and eager to end if wanted."""

    def make(kind: str, vocab: int = 11, eagerness: float = 0.0, **changes: object) -> Transformer:
        sizes = {"encoder_layers": KINDS[kind], "source_vocab": vocab, "target_vocab": vocab, "length": 32}
        model = tiny(**{**sizes, "tie": "none", **changes})
        plain, more = model.logits, eagerness * (torch.arange(vocab) == EOS)
        model.logits = lambda hidden: 2.5 * plain(hidden) + more
        return model

    return make


def texts(vocab: int, lengths: list[int]) -> list[list[int]]:
    return [torch.randint(1, vocab, (length,)).tolist() for length in lengths]


def run(model: Transformer, inputs: list[list[int]], config: SearchConfig) -> list[list[Hypothesis]]:
    return search(model, inputs, config, bos=BOS, eos=EOS)


def settings(name: str, **changes: object) -> SearchConfig:
    sizes = {"greedy": {}, "contrastive": {}}.get(name, {"beams": 4, "n_best": 4})
    return SearchConfig(**{"method": name, "max_tokens": 6, **sizes, **changes})


def same(found: list[Hypothesis], expected: list) -> None:
    assert [each.tokens for each in found] == [each.shown for each in expected]
    assert [each.score for each in found] == pytest.approx([each.score for each in expected], abs=1e-10)
    assert [each.log_probability for each in found] == pytest.approx([each.total for each in expected], abs=1e-10)


# --- against plain loops ---


@EACH_KIND
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("coverage", [0.0, 0.4])
def test_a_beam_as_wide_as_the_world_finds_the_best_of_all(writing, kind, penalty, coverage):
    if coverage and kind == "decoder-only":
        return
    model, inputs = writing(kind, vocab=5), texts(5, [1, 3])
    options = {"penalty": penalty, "length_penalty": 0.8, "coverage_penalty": coverage}
    config = SearchConfig(beams=70, n_best=20, max_tokens=3, **options)
    for text, found in zip(inputs, run(model, inputs, config), strict=True):
        same(found, every_text(model, text, config, 3)[:20])


@EACH_KIND
@pytest.mark.parametrize("method", ["beam", {"kind": "diverse", "groups": 2, "diversity": 1.5}, "diverse"], ids=str)
@pytest.mark.parametrize("eagerness", [0.0, 2.0, 4.0])
def test_beams_find_what_the_plain_search_finds(writing, kind, method, eagerness):
    model, inputs = writing(kind, eagerness=eagerness), texts(11, [1, 4, 5, 2])
    config = SearchConfig(beams=4, n_best=4, max_tokens=5, method=method)
    for text, found in zip(inputs, run(model, inputs, config), strict=True):
        same(found, beams(model, text, config, 5))


@pytest.mark.parametrize("method", ["beam", {"kind": "diverse", "groups": 3, "diversity": 0.7}], ids=str)
def test_coverage_is_the_attention_that_the_source_has_had(writing, method):
    model, inputs = writing("encoder-decoder", eagerness=2.0), texts(11, [1, 6, 3])
    scores = set()
    for beta in (0.0, 0.3, 3.0):
        config = SearchConfig(beams=6, n_best=6, max_tokens=5, method=method, coverage_penalty=beta)
        everything = run(model, inputs, config)
        for text, found in zip(inputs, everything, strict=True):
            same(found, beams(model, text, config, 5))
        scores.add(everything[1][0].score)
    assert len(scores) == 3  # the penalty matters


@EACH_KIND
@pytest.mark.parametrize("alpha", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("candidates", [1, 5])
def test_contrastive_search_is_the_plain_loop(writing, kind, alpha, candidates):
    model, inputs = writing(kind, eagerness=2.0), texts(11, [1, 4, 6])
    method = {"kind": "contrastive", "candidates": candidates, "alpha": alpha}
    for text, (found,) in zip(inputs, run(model, inputs, SearchConfig(max_tokens=7, method=method)), strict=True):
        tokens, total = contrastive(model, text, 7, candidates, alpha)
        assert found.tokens == [each for each in tokens if each != EOS]
        assert found.log_probability == pytest.approx(total, abs=1e-10)


@EACH_KIND
def test_searches_that_should_agree_with_greedy_do(writing, kind):
    model, inputs = writing(kind, eagerness=1.5), texts(11, [1, 4, 6, 3, 9, 2])
    greedy = run(model, inputs, SearchConfig(max_tokens=9))
    for (found,), text in zip(greedy, inputs, strict=True):
        written: list[int] = []
        while len(written) < 9 and EOS not in written:
            values = look(model, text, tuple(written)).values
            written.append(max(range(11), key=values.__getitem__))
        assert found.tokens == [each for each in written if each != EOS]
    for method in ("beam", {"kind": "contrastive", "alpha": 0.0}, {"kind": "diverse", "groups": 1}):
        others = run(model, inputs, SearchConfig(max_tokens=9, method=method))
        assert [each.tokens for (each,) in others] == [each.tokens for (each,) in greedy]
        for (one,), (other,) in zip(others, greedy, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-10)


def test_one_group_or_no_diversity_is_plain_beam_search(writing):
    model, inputs = writing("encoder-decoder"), texts(11, [2, 5])
    plain = run(model, inputs, SearchConfig(beams=6, n_best=6))
    one = run(model, inputs, SearchConfig(beams=6, n_best=6, method={"kind": "diverse", "groups": 1}))
    assert one == plain
    twins = SearchConfig(beams=6, n_best=6, method={"kind": "diverse", "groups": 2, "diversity": 0.0})
    threes = run(model, inputs, SearchConfig(beams=3, n_best=3))
    for found, expected in zip(run(model, inputs, twins), threes, strict=True):
        assert [each.tokens for each in found] == [each.tokens for each in expected for _ in range(2)]


def test_groups_that_are_held_back_say_different_things(writing):
    model, inputs = writing("decoder-only"), texts(11, [3, 5, 4])
    strong = SearchConfig(beams=4, n_best=4, max_tokens=5, method={"kind": "diverse", "groups": 4, "diversity": 50.0})
    for found in run(model, inputs, strong):
        assert len({each.tokens[0] for each in found}) == 4


# --- laws of the family ---


@EACH_KIND
@pytest.mark.parametrize(
    ("name", "position"),
    [("beam", each) for each in POSITIONS.names()] + [(each, "rope") for each in SEARCHES.names()],
)
def test_a_batch_is_its_texts(writing, kind, name, position):
    model, inputs = writing(kind, position=position, eagerness=2.0), texts(11, [9, 1, 4, 7])
    together = run(model, inputs, settings(name))
    everything = search_all(model, inputs, settings(name), bos=BOS, eos=EOS, budget=40)
    for text, found, also in zip(inputs, together, everything, strict=True):
        (alone,) = run(model, [text], settings(name))
        assert [each.tokens for each in found] == [each.tokens for each in also] == [each.tokens for each in alone]
        for one, two in zip(found, alone, strict=True):
            assert one.score == pytest.approx(two.score, abs=1e-10)


@EACH_SEARCH
@pytest.mark.parametrize("stack", [name for name in STACKS.names() if name != "fourier"])
def test_a_batch_is_its_prompts_whatever_the_stack(writing, name, stack):
    if not STACKS.get(stack).decodes:
        return
    model, inputs = writing("decoder-only", stack=stack), texts(11, [9, 1, 4, 7])
    for text, found in zip(inputs, run(model, inputs, settings(name)), strict=True):
        (alone,) = run(model, [text], settings(name))
        assert [each.tokens for each in found] == [each.tokens for each in alone]
        for one in found:
            assert one.log_probability == pytest.approx(_log_probability(model, text, one.tokens, 6), abs=1e-10)


@EACH_KIND
@EACH_SEARCH
def test_the_log_probability_is_that_of_the_whole_model(writing, kind, name):
    model, inputs = writing(kind, eagerness=2.0, window=4, kv_heads=1), texts(11, [9, 1, 4])
    for text, found in zip(inputs, run(model, inputs, settings(name)), strict=True):
        for each in found:
            assert each.log_probability == pytest.approx(_log_probability(model, text, each.tokens, 6), abs=1e-10)
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def _log_probability(model: Transformer, text: list[int], tokens: list[int], limit: int) -> float:
    whole = tokens if len(tokens) == limit else [*tokens, EOS]
    return sum(look(model, text, tuple(whole[:place])).values[token] for place, token in enumerate(whole))


@EACH_KIND
@EACH_SEARCH
@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_text_is_longer_than_its_limit(writing, kind, name, most):
    model, inputs = writing(kind), texts(11, [1, 4, 8])
    never = 11  # an id that the model does not have
    for found in search(model, inputs, settings(name, max_tokens=most), bos=BOS, eos=never):
        assert {len(each.tokens) for each in found} == {most}


@EACH_KIND
@EACH_SEARCH
def test_a_text_stops_where_the_position_table_ends(writing, kind, name):
    model, inputs = writing(kind, position="learned", length=8, eagerness=-9.0), texts(11, [7, 5, 1])
    found = run(model, inputs, settings(name, max_tokens=50))
    expected = [8, 8, 8] if kind == "encoder-decoder" else [2, 4, 8]
    unread = 0 if name == "contrastive" else 1  # it reads its last token too
    assert [len(each[0].tokens) + 1 - unread for each in found] == expected
    too_long = [[3] * (8 + unread)]
    if kind == "decoder-only":
        with pytest.raises(ModelError, match="a prompt is longer than the model's positions"):
            run(model, too_long, settings(name))


@EACH_KIND
@EACH_SEARCH
@pytest.mark.parametrize("how", ["whole", "autocast"])
def test_bfloat16_searches_too(writing, kind, name, how):
    torch.set_default_dtype(torch.float32)
    model, inputs = writing(kind), texts(11, [1, 4, 7])
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        found = run(model.to(torch.bfloat16) if how == "whole" else model, inputs, settings(name))
    for each in (each for hypotheses in found for each in hypotheses):
        assert -math.inf < each.log_probability < 0.0
        assert 0.0 < each.score <= 1.0 if name == "minimum_risk" else -math.inf < each.score < 0.0


@EACH_KIND
@EACH_SEARCH
def test_tiny_worlds_and_no_texts_are_no_trouble(writing, kind, name):
    model = writing(kind, vocab=3)  # padding, begin and end
    (found,) = run(model, [[1]], settings(name, max_tokens=2))
    assert 1 <= len(found) <= 4
    assert run(model, [], settings(name)) == []


@EACH_KIND
def test_groups_wider_than_the_vocabulary_are_the_plain_search(writing, kind):
    model, inputs = writing(kind, vocab=3), texts(3, [2, 4])
    config = SearchConfig(beams=6, n_best=6, max_tokens=4, method={"kind": "diverse", "diversity": 2.0})
    for text, found in zip(inputs, run(model, inputs, config), strict=True):
        same(found, beams(model, text, config, 4))


@EACH_KIND
@EACH_SEARCH
def test_logits_that_are_not_numbers_are_refused(writing, kind, name):
    model = writing(kind)
    model.logits = lambda hidden: torch.full((*hidden.shape[:-1], 11), torch.nan)
    with pytest.raises(ModelError, match="logits are not numbers"):
        run(model, [[3], [4, 5]], settings(name))


# --- mistakes ---


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "beem"}, "did you mean 'beam'"),
        ({"beams": 2, "method": "greedy"}, "a greedy search has no use of beams; found beams 2"),
        ({"beams": 2, "method": "contrastive"}, "a contrastive search has no use of beams"),
        ({"coverage_penalty": 0.2}, "a greedy search has no use of coverage_penalty"),
        ({"coverage_penalty": -0.2, "beams": 2}, "greater than or equal to 0"),
        ({"beams": 3, "method": "diverse"}, "found 3 beams, 2 groups; set beams to a multiple of 2"),
        ({"beams": 2, "method": {"kind": "diverse", "diversity": -1}}, "greater than or equal to 0"),
        ({"method": {"kind": "contrastive", "alpha": 2}}, "less than or equal to 1"),
        ({"max_tokens": 0}, "greater than 0"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused_by_name(wrong, message):
    with pytest.raises(ValidationError, match=message):
        SearchConfig(**wrong)


@EACH_SEARCH
def test_settings_survive_a_file(name):
    for config in (settings(name), SearchConfig(beams=3), SearchConfig()):
        assert SearchConfig.model_validate_json(config.model_dump_json()) == config


def test_texts_that_cannot_be_searched_are_told_so(writing, tiny):
    config = SearchConfig(max_tokens=3)
    with pytest.raises(ModelError, match=r"a prompt is longer than the model's positions; found 9; expected at most 8"):
        run(writing("decoder-only", position="learned", length=8), texts(11, [3, 9]), config)
    for kind in KINDS:
        with pytest.raises(
            ModelError, match="a source has an unknown token; found 3 to 11 in source 1; expected 0 to 10"
        ):
            run(writing(kind), [[3], [3, 11]], config)
        with pytest.raises(ModelError, match="a source has no tokens; found source 0"):
            run(writing(kind), [[]], config)
    with pytest.raises(ModelError, match="pass bos="):
        search(writing("encoder-decoder"), [[3]], config, eos=EOS)
    with pytest.raises(ModelError, match="an encoder-only model writes nothing"):
        search(tiny(decoder_layers=0, tie="none"), [[3]], config, eos=EOS)
    with pytest.raises(ModelError, match="a coverage penalty needs a decoder that reads a source"):
        run(writing("decoder-only"), [[3]], SearchConfig(beams=2, coverage_penalty=0.1))
