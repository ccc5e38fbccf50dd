"""What a model is trained for."""

from clearhead.train.objectives.base import OBJECTIVES, Loss, Objective
from clearhead.train.objectives.translation import Translation

__all__ = ["OBJECTIVES", "Loss", "Objective", "Translation"]
