"""A batch as the model reads it: padded on the right, the target shifted by one."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from clearhead.data.batches import padded, translation_batch

PAD, BOS, EOS = 0, 1, 2
SENTENCE = st.lists(st.integers(3, 22), min_size=0, max_size=9)


def ids(*rows: list[int]) -> list[np.ndarray]:
    return [np.array(row, dtype=np.int64) for row in rows]


def test_a_batch_equals_the_one_made_by_hand():
    batch = translation_batch(ids([5, 6, 7], [8]), ids([9], [10, 11]), pad=PAD, bos=BOS, eos=EOS)
    assert batch.source.tolist() == [[5, 6, 7, EOS], [8, EOS, PAD, PAD]]
    assert batch.source_valid is not None
    assert batch.source_valid.tolist() == [[True] * 4, [True, True, False, False]]
    assert batch.target.tolist() == [[BOS, 9, PAD], [BOS, 10, 11]]
    assert batch.labels.tolist() == [[9, EOS, PAD], [10, 11, EOS]]
    assert batch.counted.tolist() == [[True, True, False], [True, True, True]]
    assert batch.tokens == 5


def test_a_frame_stands_round_each_source():
    batch = translation_batch(ids([5, 6, 7], []), ids([9], [10]), pad=PAD, bos=BOS, eos=EOS, frame=([4], [EOS, 3]))
    assert batch.source.tolist() == [[4, 5, 6, 7, EOS, 3], [4, EOS, 3, PAD, PAD, PAD]]
    assert batch.source.dtype == torch.int64
    assert batch.source_valid.tolist() == [[True] * 6, [True] * 3 + [False] * 3]
    assert batch.labels.tolist() == [[9, EOS], [10, EOS]]


@given(st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=6))
def test_labels_are_the_target_shifted_by_one(pairs):
    sources, targets = zip(*pairs, strict=True)
    batch = translation_batch(ids(*sources), ids(*targets), pad=PAD, bos=BOS, eos=EOS)
    for row, (source, target) in enumerate(pairs):
        count = len(target) + 1
        assert batch.labels[row, :count].tolist() == [*target, EOS]
        assert batch.target[row, 1:count].tolist() == batch.labels[row, : count - 1].tolist()
        assert batch.target[row, 0] == BOS
        assert batch.counted[row].tolist() == [place < count for place in range(batch.labels.shape[1])]
        assert batch.source[row, : len(source) + 1].tolist() == [*source, EOS]
        assert (batch.source[row, len(source) + 1 :] == PAD).all()
    assert batch.tokens == sum(len(target) + 1 for target in targets)


def test_a_source_without_padding_has_no_mask():
    batch = translation_batch(ids([5, 6], [7, 8]), ids([9], [10, 11]), pad=PAD, bos=BOS, eos=EOS)
    assert batch.source_valid is None


def test_a_sentence_of_ten_thousand_tokens_keeps_every_one():
    long = list(range(3, 10_003))
    batch = translation_batch(ids(long), ids(long), pad=PAD, bos=BOS, eos=EOS)
    assert batch.source.shape == batch.labels.shape == (1, 10_001)
    assert batch.labels[0, :-1].tolist() == long


def test_everything_is_int64_or_bool():
    batch = translation_batch(ids([5], [6, 7]), ids([8], [9]), pad=PAD, bos=BOS, eos=EOS)
    assert {batch.source.dtype, batch.target.dtype, batch.labels.dtype} == {torch.int64}
    assert batch.counted.dtype == torch.bool
    assert padded(ids([3], [4, 5]), pad=9).tolist() == [[3, 9], [4, 5]]


def test_a_batch_on_the_cpu_is_not_copied():
    batch = translation_batch(ids([5]), ids([8]), pad=PAD, bos=BOS, eos=EOS)
    assert batch.to(torch.device("cpu")) is batch


def test_a_batch_moves_as_a_whole():
    batch = translation_batch(ids([5], [6, 7]), ids([8], [9]), pad=PAD, bos=BOS, eos=EOS)
    moved = batch.to(torch.device("meta"))
    tensors = (moved.source, moved.source_valid, moved.target, moved.labels, moved.counted)
    assert {each.device.type for each in tensors if each is not None} == {"meta"}
