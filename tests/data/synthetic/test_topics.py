"""Topics: the posterior against loops over words, the best loss against sampling it."""

import math

import pytest
import torch

from clearhead.core.errors import ConfigError
from clearhead.data.synthetic import Topics

EACH = pytest.mark.parametrize("options", [{}, {"imbalance": 20.0, "classes": 7}, {"clarity": 0.15, "classes": 20}])


def draw(task, count=6_000):
    return task.draw(count, torch.Generator().manual_seed(4))


def posterior(task, words):
    """Bayes' rule over what a row word and a column word mean, in plain Python."""
    weights = []
    for topic in range(task.classes):
        row, column = divmod(topic, task.side)
        weight = float(task.prior[topic])
        for word in words:
            place = word - 33  # behind the common words
            if place >= 0:
                kind, which = divmod(place // 5, task.side)
                weight *= which == (row, column)[kind]
        weights.append(weight)
    return [each / sum(weights) for each in weights]


@EACH
def test_the_posterior_is_that_of_bayes(options):
    task = Topics(**options)
    samples = draw(task, 100)
    found = task.posterior(samples.tokens)
    for row, label, tokens in zip(found, samples.labels.tolist(), samples.tokens.tolist(), strict=True):
        words = [each for each in tokens[1:] if each]
        assert row.tolist() == pytest.approx(posterior(task, words), abs=1e-9)
        assert row[label] > 0


@EACH
def test_who_knows_the_posterior_reaches_the_best_loss(options):
    task = Topics(**options)
    samples = draw(task)
    found = task.posterior(samples.tokens)
    nats = -found[torch.arange(len(found)), samples.labels].log()
    assert float(nats.mean()) == pytest.approx(task.best, abs=4 * float(nats.std()) / len(nats) ** 0.5)
    entropies = torch.special.entr(found).sum(1)
    assert float(entropies.mean()) == pytest.approx(task.best, abs=4 * float(entropies.std()) / len(nats) ** 0.5)
    assert float(nats.std()) / len(nats) ** 0.5 < 0.015


@EACH
def test_words_and_topics_have_their_frequencies(options):
    task = Topics(**options)
    samples = draw(task, 20_000)
    shares = samples.labels.bincount(minlength=task.classes) / 20_000
    torch.testing.assert_close(shares.double(), task.prior, rtol=0, atol=0.015)
    words = samples.tokens[samples.labels == 0][:, 1:]
    found = words[words > 0].bincount(minlength=task.vocab)
    torch.testing.assert_close((found / found.sum()).double(), task.table[0], rtol=0, atol=0.015)
    counts = (samples.tokens[:, 1:] > 0).sum(1)
    assert set(counts.tolist()) == set(range(4, 13))


def test_imbalance_is_the_ratio_of_the_first_to_the_last():
    prior = Topics(classes=10, imbalance=100.0).prior
    assert float(prior[0] / prior[-1]) == pytest.approx(100)
    assert bool((prior.diff() < 0).all())
    torch.testing.assert_close(Topics(classes=10).prior, torch.full((10,), 0.1).double())


def test_without_clarity_only_the_frequencies_are_known():
    assert Topics(classes=10, clarity=0.0).best == pytest.approx(math.log(10))
    assert Topics(classes=9, clarity=1.0, shortest=1, longest=1).best == pytest.approx(math.log(3))


@pytest.mark.parametrize("options", [{"imbalance": 0.5}, {"clarity": 1.5}, {"shortest": 13}, {"classes": 1}])
def test_impossible_topics_are_refused(options):
    with pytest.raises(ConfigError):
        Topics(**options)
