"""Position schemes: how a model knows where a token stands."""

from clearhead.model.position.alibi import Alibi
from clearhead.model.position.base import POSITIONS, UNRELATED, NoPosition, Position, Relation
from clearhead.model.position.learned import Learned
from clearhead.model.position.rotary import Rotary
from clearhead.model.position.shaw import Shaw
from clearhead.model.position.sinusoidal import Sinusoidal
from clearhead.model.position.t5 import T5Bias
from clearhead.model.position.untied import Untied
from clearhead.model.position.xl import TransformerXL

__all__ = [
    "POSITIONS",
    "UNRELATED",
    "Alibi",
    "Learned",
    "NoPosition",
    "Position",
    "Relation",
    "Rotary",
    "Shaw",
    "Sinusoidal",
    "T5Bias",
    "TransformerXL",
    "Untied",
]
