"""The end of a run: choose weights, score them, write the bundle and its report."""

from pathlib import Path

from torch import nn

from clearhead.bundle import Bundle
from clearhead.core.plugins import fingerprints
from clearhead.core.progress import clock, say
from clearhead.core.recipe import write_recipe
from clearhead.train.checkpoint import Checkpoints, State
from clearhead.train.tasks import Scores, Task


def finish(task: Task, out: Path, learner: nn.Module, checkpoints: Checkpoints, state: State) -> Bundle:
    """Save the better of the averaged and the best weights with their scores; `learner` is in eval mode."""
    recipe, model = task.recipe, task.objective.product(learner)
    history: Scores = {
        "name": out.name,
        **task.history(),
        **task.objective.history(),
        "parameters": sum(each.numel() for each in model.parameters()),
        "updates": state.update,
        "training_seconds": round(state.seconds, 1),
        **choose_weights(task, learner, checkpoints, state),
    }
    if recipe.plugins:
        history["plugins"] = fingerprints(recipe.plugins)
    if task.has_test:
        history |= {f"test_{name}": value for name, value in task.quality(learner, "test").items()}
    bundle = Bundle(model, task.source, task.target, recipe.search.model_dump(mode="json"), history)
    bundle.save(out)
    task.report(out, bundle, write_recipe(recipe))
    say(f"bundle written to {out} after {clock(state.seconds)} of training")
    return bundle


def choose_weights(task: Task, learner: nn.Module, checkpoints: Checkpoints, state: State) -> Scores:
    """Load the average of the last checkpoints or the best ones, whichever does better on the validation data."""
    checkpoints.load_best(learner)
    best = task.quality(learner, "valid")
    count = checkpoints.load_average(learner)
    averaged = task.quality(learner, "valid")
    say(f"averaged weights reach {task.rank(averaged):.3f}, the best single ones {task.rank(best):.3f}")
    chosen, name = averaged, f"average of the last {count} checkpoints"
    if task.rank(best) > task.rank(averaged):
        chosen, name = best, f"best validation, update {state.best_update}"
        checkpoints.load_best(learner)
    return {"weights": name, **{f"valid_{key}": value for key, value in chosen.items()}}
