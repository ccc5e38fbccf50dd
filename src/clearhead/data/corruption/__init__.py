"""Corruption: what a text becomes before a model restores it."""

from clearhead.data.corruption.base import CHOICES, Chooser, Corrupted, Lexicon, Treatment
from clearhead.data.corruption.infilling import Sentinels, infilled
from clearhead.data.corruption.order import drawn_order
from clearhead.data.corruption.spans import SpanChooser
from clearhead.data.corruption.tokens import TokenChooser
from clearhead.data.corruption.words import WordChooser

__all__ = [
    "CHOICES",
    "Chooser",
    "Corrupted",
    "Lexicon",
    "Sentinels",
    "SpanChooser",
    "TokenChooser",
    "Treatment",
    "WordChooser",
    "drawn_order",
    "infilled",
]
