"""Vectors from counts: the same numbers as TruncatedSVD of scikit-learn, up to the sign of a direction."""

import random

import pytest
import torch

from clearhead.core.registry import Choice
from clearhead.train.vectors import VECTORS, Stream
from clearhead.train.vectors.cooccurrence import WEIGHTINGS, counts, truncated_svd

decomposition = pytest.importorskip("sklearn.decomposition")
pytestmark = pytest.mark.peers
VOCAB, WIDTH = 230, 7


def text() -> list[list[int]]:
    """Sequences with Zipf's frequencies, whose words have topics."""
    chance = random.Random(3)
    ranks = [1 / (1 + each) for each in range(VOCAB)]
    topics = [[weight * (chance.random() < 0.3) for weight in ranks] for _ in range(9)]
    return [chance.choices(range(VOCAB), chance.choice(topics), k=30) for _ in range(300)]


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("algorithm", ["arpack", "randomized"])
def test_a_truncated_decomposition_of_counts(weighting, algorithm):
    matrix = WEIGHTINGS[weighting](counts(Stream.of(text(), VOCAB), VOCAB, 4))
    theirs = decomposition.TruncatedSVD(WIDTH, algorithm=algorithm, n_iter=60, n_oversamples=40, random_state=0)
    expected = torch.as_tensor(theirs.fit_transform(matrix.to_dense().numpy()).copy())
    left, values = truncated_svd(matrix, WIDTH, rounds=60, seed=3)
    torch.testing.assert_close(values, torch.as_tensor(theirs.singular_values_), rtol=1e-6, atol=0)
    found = left * values
    sign = (found * expected).sum(dim=0).sign()
    torch.testing.assert_close(found * sign, expected, rtol=0, atol=1e-6 * values[0].item())


def test_learned_vectors_are_what_is_transformed():
    options = {"window": 4, "weighting": "ppmi", "power": 1.0, "rounds": 60}
    found = VECTORS.build(Choice(kind="cooccurrence", options=options), WIDTH, 3).learn(text(), [""] * VOCAB)
    matrix = WEIGHTINGS["ppmi"](counts(Stream.of(text(), VOCAB), VOCAB, 4)).to_dense().numpy()
    expected = torch.as_tensor(decomposition.TruncatedSVD(WIDTH, algorithm="arpack").fit_transform(matrix).copy())
    sign = (found * expected).sum(dim=0).sign()
    torch.testing.assert_close((found * sign).double(), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
