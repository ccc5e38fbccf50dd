"""Texts that must begin with certain tokens: searches write what follows them, and count them as written."""

import pytest
import torch
from plain_searches import BOS, EOS, look

from clearhead.core.errors import ModelError
from clearhead.generate import SearchConfig, search
from clearhead.generate.searches import SEARCHES
from clearhead.generate.searches.scores import divisor

pytestmark = pytest.mark.usefixtures("double")
SOURCES = [[5, 6, 7], [9], [4, 4, 8, 10, 3]]
EACH = pytest.mark.parametrize("name", SEARCHES.names())
FORCED = [[7], [7, 9]]


def config(name: str, **changes: object) -> SearchConfig:
    single = name in ("greedy", "contrastive")
    return SearchConfig(method=name, beams=1 if single else 4, n_best=1 if single else 3, max_tokens=8, **changes)


@pytest.fixture
def model(tiny):
    found = tiny(tie="none", source_vocab=11, target_vocab=11)
    ends = 7.0 * torch.nn.functional.one_hot(torch.tensor(EOS), 11)
    found.logits = lambda hidden, plain=found.logits: 2.0 * plain(hidden) + ends
    return found


def log_probability(model, source: list[int], forced: list[int], tokens: list[int]) -> float:
    """Token by token, the whole model each time."""
    written = [*forced, *tokens]
    places = range(len(forced), len(written))
    return sum(look(model, source, tuple(written[:place])).values[written[place]] for place in places)


@EACH
@pytest.mark.parametrize("forced", FORCED, ids=str)
def test_what_follows_is_scored_given_what_is_forced(model, name, forced):
    settings = config(name, length_penalty=0.7)
    ended = 0
    for source, found in zip(SOURCES, search(model, SOURCES, settings, bos=BOS, eos=EOS, forced=forced), strict=True):
        (alone,) = search(model, [source], settings, bos=BOS, eos=EOS, forced=forced)
        assert [each.tokens for each in alone] == [each.tokens for each in found]
        for each in found:
            full = len(each.tokens) + len(forced) == settings.max_tokens
            tokens = each.tokens if full else [*each.tokens, EOS]
            ended += not full
            total = log_probability(model, source, forced, tokens)
            assert each.log_probability == pytest.approx(total, abs=1e-9)
            if name == "minimum_risk":  # a likeness of 0 to 1
                assert 0 < each.score <= 1
            else:
                assert each.score == pytest.approx(total / divisor(settings, len(tokens) + len(forced)), abs=1e-9)
            assert len(tokens) + len(forced) <= settings.max_tokens
    assert ended


@EACH
def test_nothing_forced_is_the_plain_search(model, name):
    plain = search(model, SOURCES, config(name), bos=BOS, eos=EOS)
    assert plain == search(model, SOURCES, config(name), bos=BOS, eos=EOS, forced=[])
    assert plain != search(model, SOURCES, config(name), bos=BOS, eos=EOS, forced=[7])


def test_coverage_counts_the_tokens_that_were_forced(model):
    settings = config("beam", coverage_penalty=0.3)
    for source, found in zip(SOURCES, search(model, SOURCES, settings, bos=BOS, eos=EOS, forced=[7]), strict=True):
        for each in found:
            tokens = each.tokens if len(each.tokens) == 7 else [*each.tokens, EOS]
            read = torch.tensor(look(model, source, (7, *tokens[:-1])).attention).sum(dim=0)
            expected = each.log_probability / divisor(settings, len(tokens) + 1)
            expected += 0.3 * float(read.clamp(1e-9, 1.0).log().sum())
            assert each.score == pytest.approx(expected, abs=1e-9)


def test_a_limit_below_what_is_forced_still_gives_a_text(model):
    for name in SEARCHES.names():
        found = search(
            model, SOURCES, config(name).model_copy(update={"max_tokens": 1}), bos=BOS, eos=EOS, forced=[7, 9]
        )
        assert all(len(each[0].tokens) <= 1 for each in found)


def test_mistakes_are_told_in_one_line(model, tiny):
    with pytest.raises(ModelError, match="a forced token is unknown; found 11; expected 0 to 10"):
        search(model, SOURCES, SearchConfig(), bos=BOS, eos=EOS, forced=[11])
    with pytest.raises(ModelError, match="begins with its prompt; put the forced tokens into the prompt"):
        search(tiny(encoder_layers=0), SOURCES, SearchConfig(), eos=EOS, forced=[3])
