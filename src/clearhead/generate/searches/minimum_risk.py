"""Minimum Bayes risk: of the beams, the text that the others agree with most (Kumar and Byrne, 2004; N04-1022)."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field, FiniteFloat

from clearhead.generate.searches.base import SEARCHES, Hypothesis
from clearhead.generate.searches.beam import Beam
from clearhead.generate.searches.config import SearchConfig
from clearhead.generate.searches.scores import Pool

ORDERS = 4  # lengths of n-grams that are compared
Grams = list[Counter[tuple[int, ...]]]  # of one text, by length


@SEARCHES.register("minimum_risk")
class MinimumRisk(Beam):
    """Beam search; then each beam is worth what it would score if one of them, itself included, were the reference.

    The most probable text is often an odd one: too short, or with one bold guess. What many probable texts have in
    common is safer. The score is BLEU of a single sentence over tokens, `likeness`; how much a text counts as a
    reference grows with its probability. What all are forced to begin with counts as common.

    Args:
        sharpness: exponent of the probabilities; 1 = the model's own, 0 = all texts count alike.
    """

    def __init__(self, config: SearchConfig, *, sharpness: Annotated[FiniteFloat, Field(ge=0.0)] = 0.25) -> None:
        super().__init__(config)
        self.sharpness = sharpness

    def _results(self, pools: list[Pool]) -> list[list[Hypothesis]]:
        """The best of each text by expected likeness, which becomes the score."""
        return [ranked(each.found, self.sharpness)[: self.config.n_best] for each in pools]


def ranked(texts: Sequence[Hypothesis], sharpness: float) -> list[Hypothesis]:
    """The same with their expected likeness to one of them as score, best first; of equal ones the more probable."""
    grams = [ngrams(each.tokens) for each in texts]
    most = max(each.log_probability for each in texts)
    weights = [math.exp(sharpness * (each.log_probability - most)) for each in texts]
    total = sum(weights)
    scores = [
        sum(weight * likeness(own, other) for other, weight in zip(grams, weights, strict=True)) / total
        for own in grams
    ]
    found = [replace(each, score=score) for each, score in zip(texts, scores, strict=True)]
    return sorted(found, key=lambda each: (-each.score, -each.log_probability))


def ngrams(tokens: Sequence[int]) -> Grams:
    """How often each sequence of 1, ..., 4 tokens stands in a text."""
    return [Counter(zip(*(tokens[start:] for start in range(size)), strict=False)) for size in range(1, ORDERS + 1)]


def likeness(text: Grams, reference: Grams) -> float:
    """BLEU of one sentence, 0 to 1: precisions of two and more tokens have one match more (Lin and Och, 2004)."""
    length, wanted = text[0].total(), reference[0].total()
    if not length or not wanted:
        return float(length == wanted)
    logarithms = 0.0
    for size, (own, others) in enumerate(zip(text, reference, strict=True)):
        smooth = 1 if size else 0
        matches = sum(min(count, others[gram]) for gram, count in own.items() if gram in others) + smooth
        if not matches:
            return 0.0
        logarithms += math.log(matches / (own.total() + smooth))
    return math.exp(logarithms / ORDERS + min(0.0, 1 - wanted / length))
