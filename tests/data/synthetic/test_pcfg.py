"""The small grammar of English: forms that agree, derivations that are the only ones, exact losses."""

import math

import pytest
import torch

from clearhead.data.synthetic import IGNORED, Pcfg, PcfgSentences, PcfgTopics
from clearhead.data.synthetic import small_english as english
from clearhead.data.synthetic.pcfg import FIRST, ids


def generator():
    return torch.Generator().manual_seed(11)


@pytest.fixture(scope="module")
def trees():
    task = PcfgSentences()
    samples = task.draw(1_500, generator())
    return [task.derivations(row)[0] for row in samples.tokens]


def below(tree):
    yield tree
    for part in tree.parts:
        yield from below(part)


def test_the_vocabulary_is_about_200_words():
    assert 190 <= len(english.words()) <= 210
    assert sorted(ids().values()) == list(range(FIRST, FIRST + len(english.words())))


@pytest.mark.parametrize("kind", [Pcfg, PcfgSentences])
def test_who_knows_the_grammar_reaches_the_best_loss(kind):
    task = kind()
    samples = task.draw(6_000, generator())
    nats = -task.log_probabilities(samples)
    asked = samples.labels != IGNORED
    loss = float(nats[asked].mean())
    error = float((nats.sum(1) - task.best * asked.sum(1)).std() / asked.sum(1).double().mean()) / 6_000**0.5
    assert loss == pytest.approx(task.best, abs=4 * error)
    assert error < 0.01
    assert float(nats[~asked].abs().sum()) == 0


def test_every_sentence_has_a_derivation_of_which_it_is_the_words():
    task = PcfgSentences()
    for row in task.draw(500, generator()).tokens:
        (tree,) = task.derivations(row)
        assert " ".join(tree.words()) == task.text(row)


def test_a_sentence_has_one_derivation_only(trees):
    for tree in trees[:300]:
        sentence = tuple(tree.words())
        assert [end for _, end in english._parses("S", sentence, 0)] == [len(sentence)]


def test_what_is_no_sentence_has_no_derivation():
    assert english.parse(("the", "horses", "rest", ".")) is not None
    for wrong in (
        "the horses rests .",
        "a horses rest .",
        "the horse rests",
        "every horse rest .",
        "horse the rests .",
    ):
        assert english.parse(tuple(wrong.split())) is None


def test_verbs_agree_with_their_subject_across_what_stands_between(trees):
    far = 0
    for tree in trees:
        subject, predicate, _ = tree.parts
        noun = next(each.word for each in below(subject.parts[0]) if each.symbol.startswith("noun"))
        verb = next(each.word for each in below(predicate) if "transitive" in each.symbol and each.word)
        far += len(subject.parts) > 1
        plural = noun.endswith("s") or noun == "children"
        assert verb.endswith("ed") or verb.endswith("s") != plural
    assert far > 300


def test_windows_begin_with_a_sentence_and_go_on():
    task = Pcfg(length=40)
    samples = task.draw(20, generator())
    assert bool((samples.tokens[:, 0] == 1).all())
    assert torch.equal(samples.tokens[:, 1:], samples.labels[:, :-1])
    for row in samples.labels:
        assert len(task.derivations(row)) == task.text(row).split().count(".") >= 2


def test_topics_are_told_by_their_words():
    task = PcfgTopics()
    samples = task.draw(4_000, generator())
    neutral = 0
    for row, label in zip(samples.tokens, samples.labels.tolist(), strict=True):
        told = {english.topic_of(word) for word in task.text(row).split()} - {None}
        assert told <= {list(english.TOPICS)[label]}
        neutral += not told
    assert neutral / 4_000 * math.log(5) == pytest.approx(task.best, abs=0.02)
    assert task.best > 0.01
    share = samples.labels.bincount(minlength=5) / 4_000
    torch.testing.assert_close(share, torch.full((5,), 0.2), rtol=0, atol=0.03)


def test_affixes_are_stems_with_an_ending():
    for word in ("unkind", "unhappy", "repainted", "slowly", "kindly", "horses", "milked"):
        assert word in english.words()
