"""The embedded corpus: Chinese determines English, splits hold combinations out, every word and rule is heard."""

import hashlib
import random
import re
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearhead.core.errors import DataError
from clearhead.data.grammar import HELD_OUT, Example, Grammar, embedded_pairs, owner, split_of
from clearhead.data.grammar.grammar import polish

TRAIN = 40_000
# sha256 of the first sentences of each split; it changes whenever the data change
GOLDEN = "7deacc906f8dd90ea69ea22a14780ddf69a49fda72da89986f5f71908e9fa066"


def bare(sentence: str) -> str:
    return sentence.rstrip("。？！.?!")


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return Grammar.load()


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Example]]:
    return {"train": embedded_pairs("train", TRAIN), "valid": embedded_pairs("valid", 1000),
            "test": embedded_pairs("test", 1000)}  # fmt: skip


@pytest.fixture(scope="module")
def everything(splits: dict[str, list[Example]]) -> list[Example]:
    return [example for part in splits.values() for example in part]


# --- size ---


def test_there_are_many_constructions_and_words(grammar):
    assert len(grammar.constructions) >= 300
    assert sum(1 for _ in grammar.lexicon.entries()) >= 1400


def test_pairs_are_distinct_with_or_without_punctuation(splits):
    for part in splits.values():
        assert len({bare(example.zh) for example in part}) == len(part)


def test_every_construction_occurs_in_every_split(grammar, splits):
    for part in splits.values():
        assert {example.construction for example in part} == set(grammar.constructions)


def test_constructions_are_balanced(splits):
    counts = Counter(example.construction for example in splits["train"])
    assert min(counts.values()) > 0.8 * max(counts.values())


def test_every_word_is_heard_in_training(grammar, splits):
    heard = Counter(pair for example in splits["train"] for pair in example.words)
    rare = [word for word in grammar.lexicon.entries() if heard[word.zh[""], word.en[""]] < 5]
    assert not [(word.kind, word.zh[""]) for word in rare]


# --- Chinese determines English ---


def test_a_chinese_sentence_has_one_translation(grammar, everything):
    rng = random.Random(11)
    english: dict[str, str] = {}
    for example in everything + [grammar.sample(rng) for _ in range(20_000)]:
        assert english.setdefault(bare(example.zh), bare(example.en)) == bare(example.en), example.zh


def test_an_entry_has_one_translation_in_its_kind(grammar):
    for words in grammar.lexicon.words.values():
        english: dict[tuple[str, frozenset[str]], str] = {}
        for word in words:
            if "homograph" not in word.classes:  # these are told apart by their object, which loading checks
                key = word.zh[""], word.classes & {"transitive", "intransitive"}
                assert english.setdefault(key, word.en[""]) == word.en[""]


# --- splits ---


def test_only_test_and_valid_have_their_combinations(splits):
    for name, part in splits.items():
        for example in part:
            owners = {owner(combination) for combination in example.combinations}
            assert owners - {"train"} == ({name} - {"train"}), example


def test_no_test_sentence_is_in_training_on_either_side(splits):
    for side in ("zh", "en"):
        seen = {bare(getattr(example, side)) for example in splits["train"]}
        for name in ("valid", "test"):
            assert seen.isdisjoint(bare(getattr(example, side)) for example in splits[name])


def test_one_english_sentence_has_one_split(grammar):
    rng = random.Random(5)
    home: dict[str, str | None] = {}
    for example in (grammar.sample(rng) for _ in range(20_000)):
        assert home.setdefault(bare(example.en), split_of(example)) == split_of(example), example


def test_held_out_words_are_well_known_in_other_company(splits):
    heard = Counter(pair for example in splits["train"] for pair in example.words)
    assert min(heard[pair] for pair in [("爱", "love"), ("现在", "now"), ("你", "you"), ("我", "I")]) >= 80


def test_i_love_you_now_is_left_for_the_test(grammar, splits):
    assert HELD_OUT["love + now"] == "test"
    rng = random.Random(1)
    stream = (grammar.sample(rng, "state-now") for _ in range(100_000))
    found = next(example for example in stream if bare(example.zh) == "我现在爱你")
    assert bare(found.en) == "I love you now"
    assert split_of(found) == "test"
    assert "我现在爱你" not in {bare(example.zh) for example in splits["train"]}


def test_a_share_of_each_split_has_no_punctuation(splits):
    for part in splits.values():
        naked = [example for example in part if example.zh == bare(example.zh)]
        assert 0.05 < len(naked) / len(part) < 0.15
        assert all(example.en == bare(example.en) for example in naked)


# --- determinism ---


def test_a_longer_list_begins_with_the_shorter_one():
    assert embedded_pairs("train", 30, seed=3) == embedded_pairs("train", 50, seed=3)[:30]


def test_another_seed_gives_other_sentences():
    assert embedded_pairs("test", 20, seed=1) != embedded_pairs("test", 20, seed=2)


def test_the_corpus_is_the_same_everywhere(splits):
    lines = (f"{e.zh}\t{e.en}\t{e.construction}" for name in sorted(splits) for e in islice(splits[name], 500))
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == GOLDEN


# --- the surface ---


def test_english_is_spelled_properly(everything):
    for example in everything:
        assert re.fullmatch(r"[A-Z][A-Za-z ,'-]*[A-Za-z'][.?!]?", example.en), example.en
        assert "  " not in example.en
        assert " ," not in example.en


def test_chinese_has_its_own_punctuation_and_no_spaces(everything):
    for example in everything:
        assert re.fullmatch(r"[\u4e00-\u9fffA-Z，！]+[。？！]?", example.zh), example.zh
        assert (example.zh[-1] in "。？！") == (example.en[-1] in ".?!")
        assert ("？" in example.zh) == ("?" in example.en)


def test_articles_agree_with_the_sound_that_follows(everything):
    text = "\n".join(example.en for example in everything)
    assert not re.findall(r"\b[Aa] (?=[aeio])(?!one|European)\w+", text)
    assert not re.findall(r"(?<!')\b[Aa]n (?![aeiouAEIOU]|hour|honest)\w+", text)
    assert not re.findall(r"(?<!')\b[Aa]n (?:uni(?!nt)|use)\w+", text)


def test_subjects_and_verbs_agree(everything):
    text = "\n".join(example.en for example in everything)
    assert not re.findall(r"^(?:I|You|We|They) (?:is|has|does|doesn't|isn't)\b.*", text, re.MULTILINE)
    assert not re.findall(r"^(?:He|She|Tom|Mary) (?:am|are|have|do|don't|aren't)\b.*", text, re.MULTILINE)
    assert not re.findall(r"\b(?:haves|bes|didn't (?!feed|need)\w+ed)\b.*|[({})]", text)


@given(st.sampled_from(["apple", "umbrella", "hour", "orange", "university", "book", "uniform", "honest man", "egg"]))
def test_an_article_stands_before_vowel_sounds(noun):
    expected = "a" if noun in ("university", "book", "uniform") else "an"
    assert polish(f"this is  a(n) {noun} .") == f"This is {expected} {noun}."


# --- errors ---


def test_an_unknown_construction_is_refused(grammar):
    with pytest.raises(DataError, match="no such construction"):
        grammar.sample(random.Random(1), "limerick")


def test_an_unknown_split_is_refused():
    with pytest.raises(DataError, match="train, valid or test"):
        embedded_pairs("tset", 1)
