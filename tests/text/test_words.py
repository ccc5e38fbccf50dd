from collections import Counter

import pytest
from tokenizers.pre_tokenizers import WhitespaceSplit

from clearhead.core.errors import ConfigError
from clearhead.text.words import count_words, covered, repeated


def test_words_are_counted_over_the_whole_corpus():
    assert count_words(iter(["a b", "b  c", ""]), None, WhitespaceSplit()) == {"a": 1, "b": 2, "c": 1}


def test_full_coverage_changes_nothing():
    assert covered({"ab": 2, "c": 1}, 1.0) == {"ab": 2, "c": 1}


def test_words_are_cut_at_the_rarest_characters():
    assert covered({"aab": 10, "axb": 1, "x": 1}, 0.9) == {"aab": 10, "a": 1, "b": 1}


def test_equally_rare_characters_go_by_code_point():
    assert covered({"ab": 1}, 0.5) == {"a": 1}


@pytest.mark.parametrize("coverage", [0, -1, 1.5])
def test_coverage_is_a_share(coverage):
    with pytest.raises(ConfigError, match="coverage"):
        covered({"a": 1}, coverage)


def test_repeating_gives_every_word_as_often_as_it_was_counted():
    lists = list(repeated({"a": 25, "b": 1}, most=10))
    assert [len(each) for each in lists] == [10, 10, 5, 1]
    assert Counter(word for each in lists for word in each) == {"a": 25, "b": 1}
