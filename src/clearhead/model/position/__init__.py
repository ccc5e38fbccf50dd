"""Position schemes: how a model knows where a token stands."""

from clearhead.model.position.base import POSITIONS, NoPosition, Position
from clearhead.model.position.learned import Learned
from clearhead.model.position.rotary import Rotary
from clearhead.model.position.sinusoidal import Sinusoidal

__all__ = ["POSITIONS", "Learned", "NoPosition", "Position", "Rotary", "Sinusoidal"]
