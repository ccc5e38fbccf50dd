"""Associative recall against a loop that looks the key up."""

import pytest
import torch

from clearhead.core.errors import ConfigError
from clearhead.data.synthetic import IGNORED, Recall


def draw(count=400, **options):
    return Recall(**options).draw(count, torch.Generator().manual_seed(3))


@pytest.mark.parametrize("distance", [None, 1, 3, 5])
def test_the_answer_is_the_value_beside_the_key(distance):
    samples = draw(pairs=5, keys=7, values=3, distance=distance)
    for tokens, labels in zip(samples.tokens.tolist(), samples.labels.tolist(), strict=True):
        keys, values = tokens[:-1:2], tokens[1::2]
        assert len(set(keys)) == 5
        assert set(keys) <= set(range(1, 8))
        assert set(values) <= set(range(8, 11))
        place = keys.index(tokens[-1])
        assert distance is None or place == 5 - distance
        assert labels == [IGNORED] * 10 + [values[place]]


def test_every_place_key_and_value_is_equally_likely():
    samples = draw(20_000, pairs=5, keys=7, values=3)
    keys, asked = samples.tokens[:, :-1:2], samples.tokens[:, -1:]
    for drawn, size in (((keys == asked).int().argmax(1), 5), (keys[:, 0] - 1, 7), (samples.tokens[:, 3] - 8, 3)):
        share = drawn.bincount(minlength=size) / len(drawn)
        torch.testing.assert_close(share, torch.full((size,), 1 / size), rtol=0, atol=0.02)


def test_as_many_keys_as_pairs_is_the_least():
    assert draw(3, pairs=7, keys=7).tokens.shape == (3, 15)
    with pytest.raises(ConfigError, match="keys"):
        Recall(pairs=8, keys=7)
    with pytest.raises(ConfigError, match="distance"):
        Recall(pairs=8, distance=9)
