"""The order of training: every row once an epoch, within the budget, the same again, and resumable anywhere."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clearhead.core.errors import DataError
from clearhead.data import buckets as module
from clearhead.data.buckets import STEP, Buckets, Place


def take(order: Buckets, count: int, start: Place | None = None) -> list[tuple[list[int], Place]]:
    stream = order.batches(start) if start else order.batches()
    return [(rows.tolist(), place) for rows, place in itertools.islice(stream, count)]


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_every_row_comes_once_an_epoch(epoch, stores, captions):
    rows = np.concatenate(list(Buckets(stores(captions), budget=600, seed=1).epoch(epoch)))
    assert sorted(rows.tolist()) == list(range(len(captions)))


@pytest.mark.parametrize("special", [0, 1])
def test_the_longer_side_stays_within_the_budget(special, stores, captions):
    longest = [max(each) + special for each in captions]
    sizes = []
    for rows in Buckets(stores(captions), budget=600, seed=1, special=special).epoch(0):
        sizes.append(len(rows) * max(longest[row] for row in rows))
    assert max(sizes) <= 600
    assert np.median(sizes) > 550  # and most of it is used


def widths_of(batches, captions):
    """(batches, 2): the width of each side."""
    sides = np.array(captions)
    return np.array([-(-sides[rows].max(axis=0) // STEP) * STEP for rows in batches])


def test_little_is_padded(stores, captions):
    """Measured here: 10 % of both sides together; 55 % in shuffled batches."""
    batches = list(Buckets(stores(captions), budget=2_000, seed=1).epoch(0))
    rows = np.array([len(each) for each in batches])
    padded = (rows[:, None] * widths_of(batches, captions)).sum()
    assert 1 - np.array(captions).sum() / padded < 0.13


def test_batches_come_in_few_shapes(stores, captions):
    order = Buckets(stores(captions), budget=2_000, seed=1)
    shapes = {tuple(each) for epoch in range(3) for each in widths_of(order.epoch(epoch), captions)}
    assert len(shapes) < len(list(order.epoch(0)))


def test_a_new_spelling_decides_the_batches_of_its_epoch(stores, captions):
    """Each side spells its rows anew in every epoch; the budget holds for what is read then."""

    def stretched(sequences, draw):
        return [np.repeat(each, draw.randint(1, 3)) for each in sequences]

    order = Buckets(stores(captions), budget=600, seed=1, spells=[stretched, stretched])
    for epoch in range(2):
        sides = order.sides(epoch)
        batches = list(order.epoch(epoch))
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(captions)))
        assert all(len(rows) * max(len(side[int(row)]) for side in sides for row in rows) <= 600 for rows in batches)
    again = Buckets(stores(captions), budget=9, seed=1, spells=order.spells)
    lengths = [[len(side[row]) for row in range(50)] for side in (*order.sides(0), *order.sides(1), *again.sides(0))]
    assert len({tuple(each) for each in lengths[:4]}) == 4  # other draws for each side and epoch
    assert lengths[4:] == lengths[:2]  # the same again for the same seed


def test_the_order_is_a_function_of_seed_and_epoch(stores, captions):
    both = stores(captions)
    order = [take(Buckets(both, budget=600, seed=seed), 40) for seed in (1, 1, 2)]
    assert order[0] == order[1]
    assert order[0] != order[2]
    first, second = (list(Buckets(both, budget=600, seed=1).epoch(epoch)) for epoch in (0, 1))
    assert [each.tolist() for each in first] != [each.tolist() for each in second]


def test_short_and_long_batches_are_mixed(stores, captions):
    lengths = np.array([source for source, _ in captions])
    means = [lengths[rows].mean() for rows in Buckets(stores(captions), budget=600, seed=1).epoch(0)]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stop=st.integers(1, 150), small=st.sampled_from([(1, 1), (3, 2), (7, 4)]))
def test_a_run_continues_anywhere_as_if_it_had_not_stopped(stop, small, stores, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", small[0])
    monkeypatch.setattr(module, "POOL", small[1])
    both = stores([(1 + n % 5, 1 + n % 7) for n in range(61)])
    whole = take(Buckets(both, budget=12, seed=3), stop + 60)
    rest = take(Buckets(both, budget=12, seed=3), 60, whole[stop - 1][1])
    assert rest == whole[stop:]


def test_places_count_batches_within_an_epoch(stores):
    both = stores([(4, 4)] * 10)
    places = [place for _, place in take(Buckets(both, budget=16, seed=1), 7)]
    assert places == [Place(0, 1), Place(0, 2), Place(0, 3), Place(1, 1), Place(1, 2), Place(1, 3), Place(2, 1)]


def test_a_row_longer_than_the_budget_makes_a_batch_of_its_own(stores):
    both = stores([(3, 3), (10_000, 2), (3, 3), (2, 10_000)])
    batches = [sorted(rows.tolist()) for rows in Buckets(both, budget=100, seed=1).epoch(0)]
    assert sorted(batches) == [[0, 2], [1], [3]]


def test_a_corpus_of_one_pair_goes_round_and_round(stores):
    batches = take(Buckets(stores([(3, 4)]), budget=100, seed=1), 3)
    assert batches == [([0], Place(0, 1)), ([0], Place(1, 1)), ([0], Place(2, 1))]


def test_empty_rows_take_no_harm(stores):
    rows = np.concatenate(list(Buckets(stores([(0, 0), (0, 3), (2, 0)]), budget=5, seed=1).epoch(0)))
    assert sorted(rows.tolist()) == [0, 1, 2]


def test_an_empty_corpus_is_refused_instead_of_searched_for_ever(stores):
    with pytest.raises(DataError, match="no sequence to learn from"):
        Buckets(stores([]), budget=5, seed=1)


def test_stores_that_are_not_parallel_are_refused(stores):
    long, short = stores([(1, 1)] * 3)[0], stores([(1, 1)] * 2)[0]
    with pytest.raises(DataError, match=r"not parallel; found \[2, 3\]"):
        Buckets([long, short], budget=5, seed=1)
