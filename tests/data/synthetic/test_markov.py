"""Markov chains: entropy against enumeration of all texts, samples against the table."""

import itertools
import math

import pytest
import torch

from clearhead.core.errors import ConfigError
from clearhead.data.synthetic import IGNORED, Markov

EACH_ORDER = pytest.mark.parametrize("order", [1, 2])


def probability(task, text):
    """Of a list of symbols from 0, in an explicit loop."""
    row = 0
    for symbol in text[: task.order]:
        row = row * task.symbols + symbol
    product = float(task.stationary[row])
    for place in range(task.order, len(text)):
        row = text[place - 1] if task.order == 1 else text[place - 2] * task.symbols + text[place - 1]
        product *= float(task.table[row, text[place]])
    return product


def entropy_of_texts(task, length):
    """Nats of a whole text, by enumeration of all texts of this length."""
    texts = itertools.product(range(task.symbols), repeat=length)
    return -sum(p * math.log(p) for p in (probability(task, text) for text in texts))


@EACH_ORDER
@pytest.mark.parametrize("seed", [0, 7])
def test_the_best_loss_is_the_growth_of_the_entropy_of_all_texts(order, seed):
    task = Markov(order=order, symbols=3, length=8, seed=seed)
    for length in (order, order + 2):
        growth = entropy_of_texts(task, length + 1) - entropy_of_texts(task, length)
        assert growth == pytest.approx(task.best, abs=1e-12)


@EACH_ORDER
def test_the_start_is_stationary(order):
    task = Markov(order=order, symbols=3)
    after = torch.zeros_like(task.stationary)
    for row in range(3**order):
        for symbol in range(3):
            after[(row * 3 + symbol) % 3**order] += task.stationary[row] * task.table[row, symbol]
    torch.testing.assert_close(after, task.stationary)
    assert float(task.stationary.sum()) == pytest.approx(1)


@EACH_ORDER
def test_samples_follow_the_table(order):
    task = Markov(order=order, symbols=3, length=20)
    samples = task.draw(20_000, torch.Generator().manual_seed(2))
    text = torch.cat((samples.tokens, samples.labels[:, -1:]), dim=1) - 1
    row = text[:, :-1] if order == 1 else text[:, :-2] * 3 + text[:, 1:-1]
    for columns in (slice(None), slice(0, 1), slice(-1, None)):  # all, the first asked label, the last
        counts = torch.zeros(3**order, 3).double()
        counts.index_put_(
            (row[:, columns].flatten(), text[:, order:][:, columns].flatten()),
            torch.tensor(1.0).double(),
            accumulate=True,
        )
        expected = task.stationary[:, None] * task.table
        torch.testing.assert_close(counts / counts.sum(), expected, rtol=0, atol=0.015)


@EACH_ORDER
def test_who_knows_the_table_reaches_the_best_loss(order):
    task = Markov(order=order)
    samples = task.draw(4_000, torch.Generator().manual_seed(2))
    assert bool((samples.labels[:, : order - 1] == IGNORED).all())
    tokens, labels = samples.tokens - 1, samples.labels[:, order - 1 :] - 1
    row = tokens if order == 1 else tokens[:, :-1] * 16 + tokens[:, 1:]
    loss = -task.table[row, labels].log()
    error = float(loss.mean(dim=1).std()) / len(loss) ** 0.5
    assert float(loss.mean()) == pytest.approx(task.best, abs=4 * error)
    assert error < 0.01


def test_labels_are_the_next_tokens():
    samples = Markov(order=2, length=7).draw(3, torch.Generator())
    assert torch.equal(samples.tokens[:, 2:], samples.labels[:, 1:-1])


def test_without_sharpness_there_is_nothing_to_know():
    assert Markov(sharpness=0.0).best == pytest.approx(math.log(16))
    assert Markov(sharpness=4.0).best < Markov(sharpness=2.0).best


def test_a_seed_is_a_chain():
    assert not torch.equal(Markov(seed=1).table, Markov(seed=2).table)
    assert torch.equal(Markov(seed=1, length=9).table, Markov(seed=1).table)


def test_too_many_contexts_are_refused():
    with pytest.raises(ConfigError, match="4096"):
        Markov(order=2, symbols=65)
