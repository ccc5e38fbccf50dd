"""Facts: statements against the world they are about, losses against counting."""

import math

import pytest
import torch

from clearhead.core.errors import ConfigError
from clearhead.data.synthetic import IGNORED, Facts

WORLD = {"subjects": 23, "relations": 3, "objects": 4, "conflicts": 0.5, "outdated": 0.3}


def draw(task, count=20_000):
    return task.draw(count, torch.Generator().manual_seed(8))


def probability(task, subject, relation, stated):
    """Of a statement, in plain numbers counted from 0; `stated` is an id."""
    share = 0.3 if bool(task.conflicting[subject]) else 0.0
    said = {int(task.truth[subject, relation]): 1 - share, int(task.rival[subject, relation]): share}
    return float(task.frequency[subject]) / 3 * said.get(stated, 0.0)


def test_statements_occur_as_often_as_the_world_says():
    task = Facts(**WORLD, ask="all")
    samples = draw(task)
    assert torch.equal(samples.tokens[:, 1:], samples.labels[:, :2])
    counts = {}
    for subject, relation, stated in samples.labels.tolist():
        key = subject - 3, relation - 26, stated
        counts[key] = counts.get(key, 0) + 1
    total = 0.0
    for (subject, relation, stated), count in counts.items():
        p = probability(task, subject, relation, stated)
        total += p
        assert 0 <= stated - 29 - 4 * relation < 4, "an object of the relation"
        assert count / 20_000 == pytest.approx(p, abs=5 * (p / 20_000) ** 0.5)
    assert total > 0.98


@pytest.mark.parametrize("ask", ["object", "all"])
def test_who_knows_the_world_reaches_the_best_loss(ask):
    task = Facts(**WORLD, ask=ask)
    samples = draw(task)
    nats = []
    for (_, subject, relation), label in zip(samples.tokens.tolist(), samples.labels[:, 2].tolist(), strict=True):
        p, before = probability(task, subject - 3, relation - 26, label), float(task.frequency[subject - 3]) / 3
        nats.append(-math.log(p / before) if ask == "object" else -math.log(p) / 3)
    nats = torch.tensor(nats)
    assert float(nats.mean()) == pytest.approx(task.best, abs=4 * float(nats.std()) / len(nats) ** 0.5)
    assert (samples.labels == IGNORED).any() == (ask == "object")


def test_frequencies_follow_zipf():
    frequency = Facts(subjects=50, exponent=1.5).frequency
    assert float(frequency[0] / frequency[9]) == pytest.approx(10**1.5)
    assert float(frequency.sum()) == pytest.approx(1)
    torch.testing.assert_close(Facts(subjects=4, exponent=0.0).frequency, torch.full((4,), 0.25).double())


def test_conflicts_are_about_a_share_of_the_subjects_and_have_a_rival():
    task = Facts(**WORLD)
    assert int(task.conflicting.sum()) == round(0.5 * 23)
    assert bool((task.truth != task.rival).all())
    assert Facts().best == 0
    assert not bool(Facts().conflicting.any())


def test_questions_cover_the_world_once():
    task = Facts(**WORLD)
    samples = task.questions()
    assert len({tuple(each) for each in samples.tokens.tolist()}) == len(samples) == 69
    for (_, subject, relation), (*rest, label) in zip(samples.tokens.tolist(), samples.labels.tolist(), strict=True):
        assert label == int(task.truth[subject - 3, relation - 26])
        assert rest == [IGNORED, IGNORED]


@pytest.mark.parametrize("options", [{"exponent": -1.0}, {"conflicts": 1.1}, {"outdated": 0.6}, {"objects": 1}])
def test_impossible_worlds_are_refused(options):
    with pytest.raises(ConfigError):
        Facts(**options)
