"""Vectors learned apart from a model: planted similarity is found; counts, weights and loss are their formulas."""

import math
import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clearhead.core.errors import ConfigError, DataError
from clearhead.core.registry import Choice
from clearhead.model.embedding import EMBEDDINGS
from clearhead.train.vectors import VECTORS, Stream, Vectors, at_table_scale
from clearhead.train.vectors.cooccurrence import WEIGHTINGS, counts, truncated_svd
from clearhead.train.vectors.skip_gram import loss
from clearhead.train.vectors.spelling import pieces

FAST = {"skip_gram": {"steps": 300, "batch": 256}}
EACH = pytest.mark.parametrize("name", VECTORS.names())
STEMS = ["walk", "jump", "sing", "cook"]
ENDINGS = ["", "s", "ed", "er", "ing"]
WORDS = [stem + ending for stem in STEMS for ending in ENDINGS]  # four groups of five
GROUP = torch.arange(20) // 5


def made(name: str, seed: int = 5, width: int = 12, **options: object) -> Vectors:
    return VECTORS.build(Choice(kind=name, options={**FAST.get(name, {}), **options}), width, seed)


def planted() -> list[list[int]]:
    """Sequences of words of one group: those of a group have the same neighbours."""
    chance = random.Random(3)
    return [
        chance.choices(range(start, start + 5), k=chance.randint(1, 9)) for _ in range(150) for start in (0, 5, 10, 15)
    ]


def learned(name: str, **options: object) -> Tensor:
    return made(name, **options).learn(planted(), WORDS)


@EACH
def test_words_of_a_group_are_alike(name):
    found = F.normalize(learned(name, width=16), dim=1)
    alike, same = found @ found.T, GROUP[:, None] == GROUP
    within, across = alike[same & ~torch.eye(20, dtype=torch.bool)], alike[~same]
    assert found.shape == (20, 16)
    assert within.mean() > across.mean() + 0.3
    best = alike.fill_diagonal_(-1).argmax(dim=1)
    assert (GROUP[best] == GROUP).float().mean() > 0.8  # by chance 0.2


@EACH
def test_the_same_input_gives_the_same_vectors(name):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = learned(name)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    torch.manual_seed(2)
    assert torch.equal(learned(name), first)
    if VECTORS.get(name).reads == "spelling":
        assert torch.equal(made(name).learn([], WORDS), first)
    assert not torch.equal(made(name, seed=6).learn(planted(), WORDS), first) or name == "cooccurrence"


@EACH
def test_a_table_begins_with_learned_vectors(name):
    vectors, table = at_table_scale(learned(name)), EMBEDDINGS.build(Choice(kind="table"), 20, 12, 0)
    table.load(vectors)
    assert torch.equal(table.table, vectors)
    assert table.table.requires_grad
    assert vectors.square().mean().item() == pytest.approx(1 / 12, rel=1e-5)
    torch.testing.assert_close(F.normalize(vectors, dim=1), F.normalize(learned(name), dim=1))


@pytest.mark.parametrize("name", [each for each in VECTORS.names() if VECTORS.get(each).reads == "text"])
def test_a_text_without_neighbours_is_refused(name):
    for text in ([], [[]], [[3], [4]]):
        with pytest.raises(DataError, match="no two tokens stand together"):
            made(name).learn(text, WORDS)
    with pytest.raises(DataError, match="ids from 3 to 20; expected from 0 to 19"):
        made(name).learn([[3, 20]], WORDS)


@pytest.mark.parametrize("window", [1, 2, 30])
def test_counts_are_those_of_a_loop(window):
    text, expected = planted(), torch.zeros(20, 20, dtype=torch.float64)
    for row in text:
        for i, j in ((i, j) for i in range(len(row)) for j in range(len(row)) if 0 < abs(i - j) <= window):
            expected[row[i], row[j]] += 1
    assert torch.equal(counts(Stream.of(text, 20), 20, window).to_dense(), expected)


def test_weights_are_their_formulas():
    near = counts(Stream.of(planted(), 20), 20, 2)
    plain = near.to_dense()
    total, row = plain.sum(), plain.sum(dim=1)
    for i, j in torch.cartesian_prod(torch.arange(20), torch.arange(20)).tolist():
        joint = plain[i, j] / total
        expected = max(0.0, math.log(joint / (row[i] / total * row[j] / total))) if joint else 0.0
        assert WEIGHTINGS["ppmi"](near)[i, j].item() == pytest.approx(expected, abs=1e-12)
        assert WEIGHTINGS["log"](near)[i, j].item() == pytest.approx(math.log(1 + plain[i, j]), abs=1e-12)


def test_a_truncated_decomposition_is_the_head_of_the_whole():
    matrix = torch.randn(60, 60, dtype=torch.float64) * torch.linspace(1, 0.1, 60, dtype=torch.float64)
    matrix = matrix @ matrix.T
    left, values, _ = torch.linalg.svd(matrix)
    for given in (matrix, matrix.to_sparse()):
        found, strength = truncated_svd(given, 5, rounds=30, seed=3)
        torch.testing.assert_close(strength, values[:5], rtol=1e-10, atol=0)
        sign = (found * left[:, :5]).sum(dim=0).sign()
        torch.testing.assert_close(found * sign, left[:, :5], rtol=0, atol=1e-8)


def test_more_directions_than_words_are_refused():
    with pytest.raises(ConfigError, match="no more directions than words; found width 21, 20 words"):
        learned("cooccurrence", width=21)


def test_the_loss_of_skip_gram_is_its_formula():
    own, context = torch.randn(2, 23, 12, dtype=torch.float64).unbind()
    words, near, drawn = torch.randint(23, (7,)), torch.randint(23, (7,)), torch.randint(23, (7, 3))
    expected = 0.0
    for row in range(7):
        scores = [own[words[row]] @ context[near[row]], *(-own[words[row]] @ context[each] for each in drawn[row])]
        expected += sum(math.log(1 + math.exp(-each)) for each in scores) / 7
    assert loss(own, context, words, near, drawn).item() == pytest.approx(expected, abs=1e-12)


def test_skip_gram_draws_neighbours_within_the_window_and_the_sequence():
    stream, generator = Stream.of([range(9), range(9, 14)], 14), torch.Generator().manual_seed(3)
    words, near = made("skip_gram", window=3, batch=20_000)._pairs(stream, generator)
    distance = (words - near).abs()
    assert set(distance.tolist()) == {1, 2, 3}
    assert ((words < 9) == (near < 9)).all()
    pairs = torch.stack([words, near]).unique(dim=1)
    assert pairs.shape[1] == 2 * sum(n - each for n in (9, 5) for each in (1, 2, 3))


def test_skip_gram_bears_steps_without_a_pair():
    text = [[each] for each in range(19)] + [[3, 4]]
    assert made("skip_gram", batch=1, steps=50).learn(text, WORDS).isfinite().all()


def test_the_pieces_of_a_word():
    assert pieces("ab", range(2, 4)) == ["<ab>", "<a", "ab", "b>", "<ab", "ab>"]
    assert pieces("", range(2, 4)) == ["<>"]


def test_spelling_counts_the_shared_pieces():
    words = ["walking", "walked", "talking", "xyz"]
    found = made("spelling", width=20_000, shortest=2, longest=4, buckets=4_096).learn([], words)
    sets = [set(pieces(each, range(2, 5))) for each in words]
    for i, j in torch.cartesian_prod(torch.arange(4), torch.arange(4)).tolist():
        expected = len(sets[i] & sets[j]) / math.sqrt(len(sets[i]) * len(sets[j]))
        assert (found[i] @ found[j]).item() == pytest.approx(expected, abs=0.06)
    with pytest.raises(ConfigError, match="shortest piece is longer"):
        made("spelling", shortest=4, longest=3)
