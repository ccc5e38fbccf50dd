"""The end of a run: choose weights, score them, write the bundle and its report."""

from pathlib import Path
from typing import Any

from clearhead.bundle import Bundle
from clearhead.core.progress import clock, say
from clearhead.core.recipe import write_recipe
from clearhead.model import Transformer
from clearhead.train.checkpoint import Checkpoints, State
from clearhead.train.materials import Materials
from clearhead.train.recipe import Recipe
from clearhead.train.report import write_report
from clearhead.train.validation import Translations

Scores = dict[str, Any]


def finish(
    recipe: Recipe, out: Path, model: Transformer, materials: Materials, checkpoints: Checkpoints, state: State
) -> Bundle:
    """Save the better of the averaged and the best weights with their scores; `model` is in eval mode."""
    history: Scores = {
        "name": out.name,
        "language": recipe.data.language,
        "parameters": sum(each.numel() for each in model.parameters()),
        "updates": state.update,
        "training_seconds": round(state.seconds, 1),
        **choose_weights(recipe, model, materials.valid, checkpoints, state),
    }
    if materials.test is not None:
        scores = {**quality(recipe, model, materials.test), "sentences": len(materials.test.pairs)}
        history |= {f"test_{name}": value for name, value in scores.items()}
    bundle = Bundle(model, materials.source, materials.target, recipe.search.model_dump(mode="json"), history)
    bundle.save(out)
    write_report(out, bundle, (materials.test or materials.valid).pairs, write_recipe(recipe))
    say(f"bundle written to {out} after {clock(state.seconds)} of training")
    return bundle


def choose_weights(
    recipe: Recipe, model: Transformer, valid: Translations, checkpoints: Checkpoints, state: State
) -> Scores:
    """Load the average of the last checkpoints or the best ones, whichever does better on the validation pairs."""
    checkpoints.load_best(model)
    best = quality(recipe, model, valid)
    count = checkpoints.load_average(model)
    averaged = quality(recipe, model, valid)
    say(f"averaged weights reach {rank(recipe, averaged):.3f}, the best single ones {rank(recipe, best):.3f}")
    chosen, name = averaged, f"average of the last {count} checkpoints"
    if rank(recipe, best) > rank(recipe, averaged):
        chosen, name = best, f"best validation, update {state.best_update}"
        checkpoints.load_best(model)
    return {"weights": name, **{f"valid_{key}": value for key, value in chosen.items()}}


def quality(recipe: Recipe, model: Transformer, pairs: Translations) -> Scores:
    """Loss, and the scores of the translations that the recipe's search finds."""
    return {**pairs.loss(model), **pairs.scores(model, recipe.search)}


def rank(recipe: Recipe, metrics: Scores) -> float:
    """What weights are compared by: larger is better."""
    return float(metrics["bleu"]) if recipe.train.metric == "bleu" else -float(metrics["loss"])
