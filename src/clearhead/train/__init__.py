"""Bundle and batches to a better bundle: objectives, optimisers, schedules, the loop, checkpoints, scores."""

from clearhead.train.recipe import Recipe
from clearhead.train.run import run

__all__ = ["Recipe", "run"]
