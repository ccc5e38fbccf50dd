"""What a run trains."""

from typing import Any

from clearhead.model.inventory import freeze
from clearhead.model.recompute import recompute
from clearhead.train.materials import build_model
from clearhead.train.recipe import Recipe
from clearhead.train.tasks import Task


def build_learner(recipe: Recipe, task: Task) -> Any:
    """The model with the helper of its objective, frozen and forgetful as far as the recipe says."""
    model = build_model(recipe, task.source, task.target)
    freeze(model, recipe.train.freeze)
    task.require_reach(model)
    learner = task.objective.learner(model)
    if recipe.train.recompute:
        recompute(learner)
    return learner
