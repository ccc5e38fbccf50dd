"""A filter decides by length alone and accounts for every pair."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearhead.data.filters import Filter, FilterConfig


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (0, 3, "empty side"),
        (3, 0, "empty side"),
        (0, 0, "empty side"),
        (11, 5, "more than 10 tokens"),
        (5, 11, "more than 10 tokens"),
        (10, 10, None),
        (4, 1, None),  # short pairs may have any ratio
        (6, 2, None),  # exactly the ratio
        (7, 2, "length ratio above 3"),
        (2, 7, "length ratio above 3"),
    ],
)
def test_each_bound_has_its_reason(source, target, reason):
    keep = Filter(FilterConfig(max_tokens=10, max_ratio=3.0, short=4))
    assert keep([1] * source, [1] * target) is (reason is None)
    assert list(keep.dropped) == ([reason] if reason else [])


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40))))
def test_the_numbers_of_the_report_add_up(lengths):
    keep = Filter(FilterConfig(max_tokens=20, max_ratio=2.0, short=3))
    stayed = sum(keep([1] * source, [1] * target) for source, target in lengths)
    assert stayed == keep.kept
    counts = [int(each) for each in re.findall(r"(\d+) (?:pairs|with)", keep.report())]
    assert sum(counts) == len(lengths)


def test_the_report_is_one_readable_line():
    keep = Filter(FilterConfig(max_tokens=5))
    for source, target in [(1, 1)] * 1200 + [(0, 1)] * 3 + [(6, 6)]:
        keep([1] * source, [1] * target)
    assert keep.report() == "1,200 pairs; dropped 3 with empty side, 1 with more than 5 tokens"
    assert Filter(FilterConfig()).report() == "0 pairs; none dropped"
