"""Rows of text as a model reads them, against batches made by hand."""

import numpy as np
import torch

from clearhead.data.text_batches import LabelledBatch, PrefixBatch, corrupted, shifted

PAD = 0


def pieces(*rows):
    return [[np.array(piece, dtype=np.int64) for piece in row] for row in rows]


def test_a_shifted_batch_equals_the_one_made_by_hand():
    batch = shifted(pieces([[2, 5, 6, 3], [2, 7, 3]], [[8, 9, 5]]), 6, PAD)
    assert batch.ids.tolist() == [[2, 5, 6, 2, 7, PAD], [8, 9, PAD, PAD, PAD, PAD]]
    assert batch.labels.tolist() == [[5, 6, 3, 7, 3, PAD], [9, 5, PAD, PAD, PAD, PAD]]
    assert batch.counted.tolist() == [[True] * 5 + [False], [True, True] + [False] * 4]
    assert batch.segments.tolist() == [[1, 1, 1, 2, 2, 0], [1, 1, 0, 0, 0, 0]]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 0, 0, 0, 0]]
    assert batch.tokens == 7


def test_full_windows_need_neither_segments_nor_positions():
    batch = shifted(pieces([[5, 6, 7, 8]], [[9, 8, 7, 6]]), 3, PAD)
    assert batch.segments is None
    assert batch.positions is None
    assert batch.counted.all()


def test_a_corrupted_batch_counts_what_was_chosen():
    batch = corrupted(pieces([[2, 5, 6, 3]]), pieces([[2, 4, 6, 3]]), pieces([[0, 1, 1, 0]]), 5, PAD)
    assert batch.ids.tolist() == [[2, 4, 6, 3, PAD]]
    assert batch.labels[batch.counted].tolist() == [5, 6]
    assert batch.tokens == 2
    assert batch.segments.tolist() == [[1, 1, 1, 1, 0]]


def test_a_batch_moves_as_a_whole_and_stays_on_the_cpu_uncopied():
    one = torch.ones(1, 2, dtype=torch.int64)
    for batch in (PrefixBatch(2, one, one, one.bool(), None, None, one.bool()), LabelledBatch(2, one, None, one, one)):
        assert batch.to(torch.device("cpu")) is batch
        moved = batch.to(torch.device("meta"))
        assert type(moved) is type(batch)
        assert moved.tokens == 2
        assert {each.device.type for each in vars(moved).values() if isinstance(each, torch.Tensor)} == {"meta"}
