"""Minimum Bayes risk: likeness is sentence BLEU, and the choice is the one that the definition makes."""

import math

import pytest
import torch
from pydantic import ValidationError
from sacrebleu.metrics import BLEU

from clearhead.generate import SearchConfig, search
from clearhead.generate.searches.base import Hypothesis
from clearhead.generate.searches.minimum_risk import likeness, ngrams, ranked


def sentence_bleu(text, reference):
    """Of token ids, by sacreBLEU."""
    metric = BLEU(smooth_method="add-k", smooth_value=1, tokenize="none", force=True)
    return metric.sentence_score(" ".join(map(str, text)), [" ".join(map(str, reference))]).score / 100


@pytest.mark.parametrize("seed", range(30))
def test_likeness_is_sentence_bleu(seed):
    random = torch.Generator().manual_seed(seed)
    text, reference = (
        torch.randint(0, 6, (int(torch.randint(1, 15, (), generator=random)),), generator=random).tolist()
        for _ in range(2)
    )
    found = likeness(ngrams(text), ngrams(reference))
    assert found == pytest.approx(sentence_bleu(text, reference), abs=1e-12)


def test_a_text_is_like_itself_and_nothing_like_nothing():
    for text in ([], [4], [4, 5, 6, 7, 8]):
        assert likeness(ngrams(text), ngrams(text)) == 1
    assert likeness(ngrams([]), ngrams([4])) == likeness(ngrams([4]), ngrams([])) == 0
    assert likeness(ngrams([4]), ngrams([5])) == 0


def test_what_most_agree_with_wins_unless_the_model_is_sure():
    texts = [
        Hypothesis([9, 9], 0.0, math.log(0.4)),
        Hypothesis([1, 2, 3, 4, 5], 0.0, math.log(0.3)),
        Hypothesis([1, 2, 3, 4, 6], 0.0, math.log(0.3)),
    ]
    assert ranked(texts, 1.0)[0].tokens == [1, 2, 3, 4, 5]
    assert ranked(texts, 100.0)[0].tokens == [9, 9]
    risk = {tuple(each.tokens): each.score for each in ranked(texts, 1.0)}
    assert risk[9, 9] == pytest.approx(0.4)
    assert risk[1, 2, 3, 4, 5] == pytest.approx(0.3 + 0.3 * sentence_bleu([1, 2, 3, 4, 5], [1, 2, 3, 4, 6]))


def test_a_search_ranks_the_beams_anew(tiny):
    model = tiny()
    sources = [[5, 6, 7, 3], [8, 3]]
    settings = {"beams": 5, "n_best": 5, "max_tokens": 8}
    beams = search(model, sources, SearchConfig(**settings), bos=2, eos=3)
    method = {"kind": "minimum_risk", "sharpness": 0.5}
    found = search(model, sources, SearchConfig(**settings, method=method), bos=2, eos=3)
    for mine, theirs in zip(found, beams, strict=True):
        assert mine == ranked(theirs, 0.5)
    few = search(model, sources, SearchConfig(**{**settings, "n_best": 2}, method=method), bos=2, eos=3)
    assert few == [each[:2] for each in found]


def test_sharpness_is_not_negative():
    with pytest.raises(ValidationError, match="sharpness"):
        SearchConfig(beams=4, method={"kind": "minimum_risk", "sharpness": -1})
