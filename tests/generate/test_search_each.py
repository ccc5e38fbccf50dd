"""Searches over many sources tell what is found as soon as it is."""

import pytest
from plain_searches import BOS, EOS

from clearhead.generate import SearchConfig, search, search_all, search_each
from clearhead.generate.searches import doorway

pytestmark = pytest.mark.usefixtures("double")
SOURCES = [[4] * length for length in (5, 1, 7, 5, 2, 6, 1)]
CONFIG = SearchConfig(max_tokens=4)
ENDS = {"bos": BOS, "eos": EOS}


def test_every_source_is_told_once_with_what_is_found_for_it_alone(tiny):
    model = tiny()
    found = dict(search_each(model, SOURCES, CONFIG, **ENDS, budget=10))
    assert sorted(found) == list(range(7))
    for place, each in found.items():
        (alone,) = search(model, [SOURCES[place]], CONFIG, **ENDS)
        assert [one.tokens for one in each] == [one.tokens for one in alone]
    assert [found[place] for place in range(7)] == search_all(model, SOURCES, CONFIG, **ENDS, budget=10)


def test_a_batch_is_told_before_the_next_one_is_computed_and_the_first_source_comes_early(tiny, monkeypatch):
    seen: list[object] = []
    plain = doorway.search

    def watched(model, sources, config, **ends):
        seen.append([len(each) for each in sources])
        return plain(model, sources, config, **ends)

    monkeypatch.setattr(doorway, "search", watched)
    for place, _ in search_each(tiny(), SOURCES, CONFIG, **ENDS, budget=10):
        seen.append(place)
    assert seen == [[5, 5], 0, 3, [1, 1, 2], 1, 6, 4, [7], 2, [6], 5]


def test_progress_counts_the_sources(tiny):
    seen: list[int] = []
    search_all(tiny(), SOURCES, CONFIG, **ENDS, progress=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert list(search_each(tiny(), [], CONFIG, **ENDS)) == []
