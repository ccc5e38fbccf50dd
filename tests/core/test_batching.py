"""Cutting rows into batches within a budget of padded tokens."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from clearhead.core.batching import cut

LENGTHS = st.lists(st.integers(0, 30), max_size=40)


@given(LENGTHS, st.integers(1, 60))
def test_the_slices_cover_every_row_once_and_in_order(lengths, budget):
    assert [row for part in cut(lengths, budget) for row in range(len(lengths))[part]] == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 60))
def test_only_a_single_row_may_exceed_the_budget(lengths, budget):
    for part in cut(lengths, budget):
        rows = lengths[part]
        assert len(rows) == 1 or len(rows) * max(rows) <= budget


@given(LENGTHS, st.integers(1, 60))
def test_no_batch_is_cut_before_it_must_be(lengths, budget):
    parts = list(cut(lengths, budget))
    for part, following in itertools.pairwise(parts):
        longer = lengths[part.start : following.start + 1]
        assert len(longer) * max(longer) > budget


def test_by_hand():
    assert list(cut([2, 2, 2, 5, 9, 1], 6)) == [slice(0, 3), slice(3, 4), slice(4, 5), slice(5, 6)]
    assert list(cut([], 6)) == []
    assert list(cut([0, 0, 0], 1)) == [slice(0, 3)]
