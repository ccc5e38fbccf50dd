"""What is hidden from a model: at the promised rates, never a special token, whole words and spans kept together."""

import numpy as np
import pytest
from scipy.stats import chisquare

from clearhead.core.errors import ConfigError, TokenizerError
from clearhead.core.registry import Choice
from clearhead.data.corruption import CHOICES, Lexicon, Sentinels, Treatment, drawn_order, infilled
from clearhead.data.corruption.words import word_numbers
from clearhead.text import train_tokenizer

EACH_CHOICE = pytest.mark.parametrize("name", CHOICES.names())
TEXT = "the cat sat on a mat and looked at the extraordinarily long wall behind itself"
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def tokenizer():
    kind = Choice(kind="wordpiece", options={"vocab_size": 60})
    return train_tokenizer(kind, [" ".join(WORDS)] * 3)


@pytest.fixture(scope="module")
def lexicon(tokenizer):
    return Lexicon.of(tokenizer)


@pytest.fixture(scope="module")
def ids(tokenizer):
    """cls, 400 words, sep."""
    text = " ".join(np.random.default_rng(2).choice(WORDS, 400))
    return np.array([tokenizer.need("cls"), *tokenizer.encode(text), tokenizer.need("sep")])


@EACH_CHOICE
def test_special_tokens_are_never_chosen(name, lexicon, ids):
    chooser, random = CHOICES.build(Choice(kind=name)), np.random.default_rng(0)
    for _ in range(50):
        groups = chooser(ids, lexicon, random)
        assert groups.shape == ids.shape
        assert (groups[[0, -1]] == -1).all()


@EACH_CHOICE
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_the_share_of_chosen_tokens_is_the_rate(name, rate, lexicon, ids):
    chooser, random = CHOICES.build(Choice(kind=name, options={"rate": rate})), np.random.default_rng(0)
    shares = [(chooser(ids, lexicon, random) >= 0).sum() / (len(ids) - 2) for _ in range(300)]
    error = np.std(shares) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - rate) < max(4 * error, 2e-3)


@EACH_CHOICE
def test_the_same_generator_chooses_the_same(name, lexicon, ids):
    chooser = CHOICES.build(Choice(kind=name))
    one, two, other = (chooser(ids, lexicon, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_tokens_are_chosen_independently_at_the_rate(lexicon, ids):
    """Chi-square over the four cases of two neighbours."""
    chooser, random = CHOICES.build(Choice(kind="token", options={"rate": 0.2})), np.random.default_rng(5)
    chosen = np.concatenate([chooser(ids, lexicon, random)[1:-1] >= 0 for _ in range(40)])
    chosen = chosen[: len(chosen) // 2 * 2].reshape(-1, 2)
    cases = np.bincount(2 * chosen[:, 0] + chosen[:, 1], minlength=4)
    expected = np.array([0.64, 0.16, 0.16, 0.04]) * len(chosen)
    assert chisquare(cases, expected).pvalue > 1e-3


@EACH_CHOICE
def test_80_10_10_by_chi_square(name, lexicon, ids):
    chooser, treat, random = CHOICES.build(Choice(kind=name)), Treatment(), np.random.default_rng(7)
    cases = np.zeros(3)
    for _ in range(150):
        groups = chooser(ids, lexicon, random)
        changed, chosen = treat(ids, groups, lexicon, random)
        assert (changed == ids)[~chosen].all()
        firsts = np.unique(groups, return_index=True)[1][1:]  # one token of each group
        masked = changed[firsts] == lexicon.mask
        kept = changed[firsts] == ids[firsts]
        cases += masked.sum(), (~masked & ~kept).sum(), kept.sum()
    same = 0.1 / len(lexicon.words)  # a random word may be the word itself
    assert chisquare(cases, np.array([0.8, 0.1 - same, 0.1 + same]) * cases.sum()).pvalue > 1e-3


def test_random_words_are_drawn_evenly_from_all_but_the_special_ones(lexicon, ids):
    random, treat = np.random.default_rng(3), Treatment(mask=0.0, random=1.0)
    found = np.zeros(len(lexicon.special))
    for _ in range(40):
        changed, _ = treat(ids, np.arange(len(ids)), lexicon, random)
        np.add.at(found, changed, 1)
    assert not found[lexicon.special].any()
    assert chisquare(found[lexicon.words]).pvalue > 1e-3


def test_words_are_numbered_as_the_text_has_them(tokenizer, lexicon):
    text = "the extraordinarily cat"
    ids = np.array([tokenizer.need("cls"), *tokenizer.encode(text), tokenizer.need("sep")])
    numbers = word_numbers(ids, lexicon)
    for number, word in enumerate(text.split()):
        assert tokenizer.decode(ids[numbers == number]) == word
    assert numbers[[0, -1]].tolist() == [-1, -1]


@pytest.mark.parametrize("kind", ["byte_bpe", "unigram"])
def test_words_begin_at_blanks_in_the_other_vocabularies(kind):
    corpus = [" ".join(WORDS)] * 20
    options = {"vocab_size": 300} if kind == "byte_bpe" else {"vocab_size": 30}
    tokenizer = train_tokenizer(Choice(kind=kind, options=options), corpus)
    lexicon = Lexicon.of(tokenizer)
    ids = np.array(tokenizer.encode(corpus[0]))
    numbers = word_numbers(ids, lexicon)
    assert [tokenizer.decode(ids[numbers == each]).strip() for each in range(numbers.max() + 1)] == WORDS


def test_a_word_is_chosen_whole(lexicon, ids):
    chooser, random = CHOICES.build(Choice(kind="word")), np.random.default_rng(0)
    numbers = word_numbers(ids, lexicon)
    for _ in range(20):
        chosen = chooser(ids, lexicon, random) >= 0
        for number in np.unique(numbers[chosen]):
            assert chosen[numbers == number].all()


def test_spans_are_whole_words_side_by_side_with_geometric_lengths(lexicon, ids):
    chooser, random = CHOICES.build(Choice(kind="span", options={"rate": 0.1})), np.random.default_rng(0)
    numbers, lengths = word_numbers(ids, lexicon), np.zeros(11)
    for _ in range(600):
        groups = chooser(ids, lexicon, random)
        for group in range(groups.max() + 1):
            places = np.flatnonzero(groups == group)
            words = np.unique(numbers[places])
            assert np.isin(numbers, words).sum() == len(places)  # whole words
            assert (np.diff(places) == 1).all()
            lengths[len(words)] += group == 0  # later spans have to fit between earlier ones
    weights = 0.8 ** np.arange(10)
    assert chisquare(lengths[1:], 600 * weights / weights.sum()).pvalue > 1e-3


def test_a_vocabulary_without_a_mask_token_is_refused():
    tokenizer = train_tokenizer("char", ["abc"])
    plain = type(tokenizer)(tokenizer.backend, None)
    plain._roles.pop("mask")
    with pytest.raises(TokenizerError, match="no mask token"):
        Lexicon.of(plain)


def test_shares_above_one_are_refused():
    with pytest.raises(ConfigError, match="exceed 1"):
        Treatment(mask=0.9, random=0.2)


@pytest.mark.parametrize("suffix_first", [False, True])
def test_infilling_rearranges_and_loses_nothing(suffix_first):
    ids, marks = np.arange(10, 17), Sentinels(1, 2, 3)
    cuts = np.zeros((8, 8))
    random = np.random.default_rng(0)
    for _ in range(6400):
        moved = infilled(ids, marks, random, suffix_first=suffix_first).tolist()
        if suffix_first:
            assert moved[:2] == [1, 2]
            end = moved.index(3)
            suffix, rest = moved[2:end], moved[end + 1 :]
            assert rest + suffix == ids.tolist()
        else:
            assert moved[0] == 1
            prefix, suffix = moved[1 : moved.index(2)], moved[moved.index(2) + 1 : moved.index(3)]
            middle = moved[moved.index(3) + 1 :]
            assert prefix + middle + suffix == ids.tolist()
            cuts[len(prefix), len(prefix) + len(middle)] += 1
    if not suffix_first:  # two places, each of 8, in either order
        expected = np.triu(np.full((8, 8), 200.0), 1) + np.diag(np.full(8, 100.0))
        assert chisquare(cuts[expected > 0], expected[expected > 0]).pvalue > 1e-3


@pytest.mark.parametrize(("share", "count"), [(1 / 6, 5), (1.0, 30), (0.001, 1)])
def test_the_last_share_of_a_random_order_is_predicted(lexicon, ids, share, count):
    text = np.concatenate([ids[:31], ids[-1:]])
    seen = np.zeros(32)
    for seed in range(300):
        ranks = drawn_order(text, lexicon, share, np.random.default_rng(seed))
        assert sorted(ranks[ranks >= 0].tolist()) == list(range(count))
        seen += ranks >= 0
    assert seen[[0, -1]].tolist() == [0, 0]
    if share < 1:
        assert chisquare(seen[1:-1]).pvalue > 1e-3
