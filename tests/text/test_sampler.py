import json
import pickle
import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from clearhead.core.errors import TokenizerError
from clearhead.text import TOKENIZERS, SubwordSampler

EACH_BPE = pytest.mark.parametrize("kind", ["bpe", "byte_bpe"])  # the two that have merges
EACH_LANGUAGE = pytest.mark.parametrize("language", ["en", "zh"])


@EACH_BPE
@EACH_LANGUAGE
def test_without_dropout_the_ids_are_the_ordinary_ones(kind, language, sentences):
    texts = sentences(language)
    tokenizer = TOKENIZERS.get(kind)(vocab_size=1_500, min_frequency=1).train(texts)
    sampler = SubwordSampler(tokenizer, dropout=0)
    assert [sampler.sample(text, random.Random(0)) for text in texts] == tokenizer.encode_batch(texts)


@EACH_BPE
@pytest.mark.parametrize("dropout", [0.1, 0.5, 1.0])
def test_every_spelling_decodes_to_the_same_text(kind, dropout, trained, lines):
    tokenizer, draw = trained(kind), random.Random(0)
    sampler = SubwordSampler(tokenizer, dropout=dropout)
    for text in [*lines[::5], "", "the 龙 old"]:
        assert tokenizer.decode(sampler.sample(text, draw)) == tokenizer.decode(tokenizer.encode(text))


@EACH_BPE
def test_with_full_dropout_a_word_is_its_characters(kind, trained):
    ids = SubwordSampler(trained(kind), dropout=1).sample("sailor", random.Random(0))
    assert len(ids) == len("sailor")


@EACH_BPE
def test_the_same_state_gives_the_same_spellings(kind, trained, lines):
    sampler, again = SubwordSampler(trained(kind)), SubwordSampler(trained(kind))
    again.sample(lines[3], random.Random(9))  # what was asked before does not matter
    draw, redraw = random.Random(1), random.Random(1)
    assert [sampler.sample(text, draw) for text in lines] == [again.sample(text, redraw) for text in lines]


@EACH_BPE
def test_words_cut_beforehand_give_the_same_spelling(kind, trained, lines):
    sampler = SubwordSampler(trained(kind))
    text = lines[0]
    draw, redraw = np.random.default_rng(1), np.random.default_rng(1)
    assert sampler.sample(sampler.words(text), draw) == sampler.sample(text, redraw)


def test_spellings_come_with_the_probabilities_of_the_paper():
    tokenizer = TOKENIZERS.get("bpe")(vocab_size=15, min_frequency=1).train(["abab abc bc abab"])
    sampler, draw, trials = SubwordSampler(tokenizer, dropout=0.3), random.Random(0), 20_000
    ranks = {pair: rank for rank, pair in enumerate(_merges(tokenizer))}
    expected = exact(("a", "b", "a", "b", "c</w>"), ranks, 0.3)
    found = Counter(tuple(tokenizer.tokens(sampler.sample("ababc", draw))) for _ in range(trials))
    assert set(found) <= set(expected)
    assert len(expected) > 4
    for spelling, probability in expected.items():
        deviation = (probability * (1 - probability) / trials) ** 0.5
        assert abs(found[spelling] / trials - probability) < 5 * deviation


def exact(word: tuple[str, ...], ranks: dict[tuple[str, str], int], dropout: float) -> dict[tuple[str, ...], float]:
    """Algorithm 1 of the paper by enumeration: the best merge that was not dropped, or the end if all were."""
    places = [place for place in range(len(word) - 1) if word[place : place + 2] in ranks]
    result: defaultdict[tuple[str, ...], float] = defaultdict(float)
    alive = 1.0
    for place in sorted(places, key=lambda each: (ranks[word[each : each + 2]], each)):
        joined = (*word[:place], word[place] + word[place + 1], *word[place + 2 :])
        for spelling, probability in exact(joined, ranks, dropout).items():
            result[spelling] += alive * (1 - dropout) * probability
        alive *= dropout
    result[word] += alive
    return result


def _merges(tokenizer) -> list[tuple[str, str]]:

    return [(left, right) for left, right in json.loads(tokenizer.to_json())["model"]["merges"]]


def test_a_sampler_travels_to_another_process(trained):
    sampler = SubwordSampler(trained("bpe"), dropout=0.4)
    copy = pickle.loads(pickle.dumps(sampler))
    assert copy.sample("the old sailor", random.Random(3)) == sampler.sample("the old sailor", random.Random(3))


def test_a_tokenizer_without_merges_of_its_own_is_refused(trained):
    with pytest.raises(TokenizerError, match="expected a byte_bpe or bpe tokenizer"):
        SubwordSampler(trained("unigram"))


def test_dropout_is_a_probability(trained):
    with pytest.raises(TokenizerError, match=r"found 1\.5"):
        SubwordSampler(trained("bpe"), dropout=1.5)
