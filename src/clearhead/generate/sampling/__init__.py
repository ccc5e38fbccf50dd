"""Samplers: how one request's next token is chosen from its logits."""

from clearhead.generate.sampling.bad_words import BadWords
from clearhead.generate.sampling.base import STEPS, Context, Step
from clearhead.generate.sampling.chooser import Chooser, Chosen
from clearhead.generate.sampling.config import SamplingConfig
from clearhead.generate.sampling.constrained import Constrained
from clearhead.generate.sampling.constraints import CONSTRAINTS, Constraint, Matcher
from clearhead.generate.sampling.frequency import FrequencyPenalty
from clearhead.generate.sampling.logit_bias import LogitBias
from clearhead.generate.sampling.min_p import MinP
from clearhead.generate.sampling.presence import PresencePenalty
from clearhead.generate.sampling.repetition import RepetitionPenalty
from clearhead.generate.sampling.spelling import Spelling
from clearhead.generate.sampling.temperature import Temperature
from clearhead.generate.sampling.top_k import TopK
from clearhead.generate.sampling.top_p import TopP
from clearhead.generate.sampling.typical import Typical

__all__ = [
    "CONSTRAINTS",
    "STEPS",
    "BadWords",
    "Chooser",
    "Chosen",
    "Constrained",
    "Constraint",
    "Context",
    "FrequencyPenalty",
    "LogitBias",
    "Matcher",
    "MinP",
    "PresencePenalty",
    "RepetitionPenalty",
    "SamplingConfig",
    "Spelling",
    "Step",
    "Temperature",
    "TopK",
    "TopP",
    "Typical",
]
