"""The automaton of a grammar against enumeration of all its derivations."""

import itertools
import math
from collections import defaultdict

import pytest
import torch

from clearhead.data.synthetic.automaton import Automaton

RULES = {  # two topics with words of their own and shared ones, an optional part, numbers that `the` hides
    "S": [(1, ("A", ".")), (3, ("B", "."))],
    "A": [(2, ("the", "x", "more")), (1, ("the", "y"))],
    "B": [(1, ("the", "x")), (1, ("z", "x", "more")), (0.5, ("z", "more", "more"))],
    "more": [(1, ()), (1, ("y",)), (2, ("x", "y"))],
}
IDS = {".": 1, "the": 2, "x": 3, "y": 4, "z": 5}


def derivations(stack):
    """Every sentence with the probability of every one of its derivations, in an explicit recursion."""
    if not stack:
        yield (), 1.0
    elif stack[0] not in RULES:
        for rest, p in derivations(stack[1:]):
            yield (stack[0], *rest), p
    else:
        total = sum(weight for weight, _ in RULES[stack[0]])
        for weight, body in RULES[stack[0]]:
            for words, p in derivations((*body, *stack[1:])):
                yield words, p * weight / total


@pytest.fixture(scope="module")
def sentences():
    found = defaultdict(float)
    for words, p in derivations(("S",)):
        found[tuple(IDS[word] for word in words)] += p
    assert sum(found.values()) == pytest.approx(1)
    return dict(found)


@pytest.fixture(scope="module")
def automaton():
    return Automaton(RULES, "S", IDS, 6)


def test_the_grammar_of_this_test_is_ambiguous(sentences):
    assert len(list(derivations(("S",)))) > len(sentences)


def test_a_sentence_has_the_sum_of_its_derivations(automaton, sentences):
    for words, p in sentences.items():
        row = torch.tensor([[*words, 0, 0]])
        assert float(automaton.log_probabilities(row, restart=False).sum()) == pytest.approx(math.log(p), abs=1e-10)
    assert float(automaton.log_probabilities(torch.tensor([[2, 2, 1]]), restart=False).sum()) == -math.inf


def test_entropies_are_those_of_all_sentences(automaton, sentences):
    total = -sum(p * math.log(p) for p in sentences.values())
    mean = sum(p * len(words) for words, p in sentences.items())
    assert automaton.nats_of_sentences() == pytest.approx(total / mean, abs=1e-10)
    assert automaton.longest() == max(map(len, sentences))
    inside = sum(p for words, p in sentences.items() if set(words) <= {1, 3, 5})
    assert automaton.share_within([1, 3, 5]) == pytest.approx(inside, abs=1e-10)


@pytest.mark.parametrize("length", [1, 4, 6])
def test_the_entropy_of_a_window_is_that_of_all_windows(automaton, sentences, length):
    windows = defaultdict(float)
    for several in itertools.product(sentences, repeat=3):  # three sentences always fill a window
        words = tuple(itertools.chain(*several))
        windows[words[:length]] += math.prod(sentences[each] for each in several)
    total = -sum(p * math.log(p) for p in windows.values())
    assert automaton.nats_of_text(length) == pytest.approx(total / length, abs=1e-10)


def test_sentences_are_drawn_as_often_as_they_should(automaton, sentences):
    rows = automaton.draw(torch.rand(20_000, 6, dtype=torch.float64), restart=False).tolist()
    drawn = defaultdict(int)
    for row in rows:
        drawn[tuple(each for each in row if each)] += 1
    assert drawn.keys() <= sentences.keys()
    for words, p in sentences.items():
        assert drawn[words] / 20_000 == pytest.approx(p, abs=4 * (p / 20_000) ** 0.5)


def test_text_goes_on_with_the_next_sentence(automaton, sentences):
    row = automaton.draw(torch.rand(1, 500, dtype=torch.float64), restart=True)[0].tolist()
    whole = [(*each.split(), "1") for each in " ".join(map(str, row)).split(" 1")[:-1]]
    assert {tuple(map(int, each)) for each in whole} <= sentences.keys()
    assert len(whole) > 80
