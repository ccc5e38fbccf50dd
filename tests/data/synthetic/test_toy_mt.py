"""Toy translation: worked examples of every rule, splits without overlap, both forms the same pairs."""

import pytest
import torch

from clearhead.core.errors import ConfigError
from clearhead.core.registry import Choice
from clearhead.data.synthetic import IGNORED, TASKS, ToyMT
from clearhead.data.synthetic import small_english as english
from clearhead.data.synthetic.invented import invented_words, lexicon, translate

# English, and the order of its stems in the other language; `ta` is the particle of the past.
WORKED = [
    ("the hen rests .", "hen rest"),
    ("many hens rested slowly .", "many hens slowly rest ta"),
    ("a brown hen rests .", "a hen brown rest"),
    ("this hen herds the cows .", "this hen cows herd"),
    ("some hens herd a cow near the field .", "some hens field near a cow herd"),
    ("the hen behind every barn jumped .", "every barn behind hen jump ta"),
    ("the hen that pulls a cow jumps .", "a cow pull that hen jump"),
    ("the hen that jumped rests .", "jump ta that hen rest"),
    ("the horse that the farmers milked pulls a cow .", "farmers milk ta that horse a cow pull"),
]


def splits(pairs, seed=0):
    return {split: ToyMT(pairs=pairs, split=split, seed=seed).pairs for split in ("train", "valid", "test")}


@pytest.mark.parametrize(("sentence", "expected"), WORKED)
def test_worked_examples(sentence, expected):
    words = [each if each == "ta" else lexicon()[each] for each in expected.split()]
    assert translate(english.parse(tuple(sentence.split()))) == words


def test_no_two_words_share_a_translation():
    verbs = set(english.class_words("sea")["transitive.s"])
    assert len(set(lexicon().values())) == len(lexicon())
    assert len(set(invented_words())) == len(lexicon()) + 1
    assert {"sailor", "sailors", "deep", "near", "follow", "that"} <= lexicon().keys()
    assert not verbs & lexicon().keys()  # only their stems


def test_no_sentence_is_in_two_splits_or_twice_in_one():
    found = splits(500)
    sentences = [source for pairs in found.values() for source, _ in pairs]
    assert len(set(sentences)) == len(sentences) == 2_500
    assert [len(found[each]) for each in ("train", "valid", "test")] == [500, 1_000, 1_000]


def test_a_larger_training_set_begins_with_the_smaller_and_keeps_the_test():
    small, large = splits(300), splits(700)
    assert large["train"][:300] == small["train"]
    assert large["test"] == small["test"]
    assert splits(300, seed=1)["test"] != small["test"]


def test_every_pair_is_a_sentence_of_the_grammar_with_its_translation():
    for source, target in ToyMT(pairs=300).pairs:
        assert 5 <= len(source) <= 15
        assert 5 <= len(target) + 1 <= 15
        assert translate(english.parse(source)) == list(target)


def test_ids_say_what_the_pairs_say():
    task = ToyMT(pairs=100)
    samples = task.all()
    for row, (source, target) in enumerate(task.pairs):
        assert task.text(samples.source[row]) == " ".join(source)
        assert task.text(samples.tokens[row]) == " ".join(target)
        labels = samples.labels[row][samples.labels[row] != IGNORED]
        assert labels[:-1].tolist() == samples.tokens[row][samples.valid[row]][1:].tolist()
        assert int(labels[-1]) == 2
        assert int(samples.tokens[row, 0]) == 1


def test_one_sequence_holds_the_same_pair_as_two():
    two, one = (ToyMT(pairs=60, form=form).all() for form in ("encoder_decoder", "decoder"))
    for row in range(60):
        source, target = two.source[row][two.source_valid[row]], two.tokens[row][two.valid[row]]
        joined = one.tokens[row][one.valid[row]]
        assert joined.tolist() == source.tolist() + target.tolist()
        labels = one.labels[row][one.valid[row]].tolist()
        assert labels == [IGNORED] * len(source) + two.labels[row][two.valid[row]].tolist()


def test_draws_come_from_the_set_and_reach_all_of_it():
    task = ToyMT(pairs=20)
    drawn = task.draw(500, torch.Generator().manual_seed(1)).source.tolist()
    assert {tuple(each) for each in drawn} == {tuple(each) for each in task.all().source.tolist()}


def test_an_unknown_split_is_refused():
    with pytest.raises(ConfigError, match="split"):
        TASKS.build(Choice(kind="toy_mt", options={"split": "dev"}))
