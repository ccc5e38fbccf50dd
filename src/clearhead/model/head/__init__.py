"""Heads: what a model is asked to say about its last hidden states."""

from clearhead.model.head.adaptive import AdaptiveSoftmax
from clearhead.model.head.base import HEADS, Head, Surroundings
from clearhead.model.head.classify import POOLINGS, Classify, Tokens
from clearhead.model.head.lm import LanguageModel
from clearhead.model.head.mlm import MaskedLanguageModel, Pretraining

__all__ = [
    "HEADS",
    "POOLINGS",
    "AdaptiveSoftmax",
    "Classify",
    "Head",
    "LanguageModel",
    "MaskedLanguageModel",
    "Pretraining",
    "Surroundings",
    "Tokens",
]
