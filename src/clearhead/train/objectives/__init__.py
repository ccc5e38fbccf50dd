"""What a model is trained for."""

from clearhead.train.objectives.base import OBJECTIVES, Collate, Loss, Objective, TextObjective
from clearhead.train.objectives.causal import Causal
from clearhead.train.objectives.classification import Classification
from clearhead.train.objectives.distillation import Distillation
from clearhead.train.objectives.fill_in_the_middle import FillInTheMiddle
from clearhead.train.objectives.masked import Masked
from clearhead.train.objectives.next_sentence import NextSentence
from clearhead.train.objectives.permutation import Permutation
from clearhead.train.objectives.prefix import Prefix
from clearhead.train.objectives.r_drop import RDrop
from clearhead.train.objectives.replaced_token import ReplacedToken
from clearhead.train.objectives.translation import Translation

__all__ = [
    "OBJECTIVES",
    "Causal",
    "Classification",
    "Collate",
    "Distillation",
    "FillInTheMiddle",
    "Loss",
    "Masked",
    "NextSentence",
    "Objective",
    "Permutation",
    "Prefix",
    "RDrop",
    "ReplacedToken",
    "TextObjective",
    "Translation",
]
