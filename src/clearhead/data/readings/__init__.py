"""Readings: rows of a fixed length from a corpus of token ids."""

from clearhead.data.readings.base import READINGS, Frame, Pieces, Reading
from clearhead.data.readings.packed import Packed, best_fit
from clearhead.data.readings.sentence_pairs import SentencePair, SentencePairs
from clearhead.data.readings.windows import Windows

__all__ = [
    "READINGS",
    "Frame",
    "Packed",
    "Pieces",
    "Reading",
    "SentencePair",
    "SentencePairs",
    "Windows",
    "best_fit",
]
