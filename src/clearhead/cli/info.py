"""clearhead info: what is in a model or what a recipe would build."""

from pathlib import Path
from typing import Annotated, Any

import typer

from clearhead.cli.options import AsJson, print_json, print_table, recipe_path
from clearhead.core.errors import UsageError


def command(
    model: Annotated[Path, typer.Argument(help="Folder of a model, or a recipe.", metavar="MODEL|RECIPE")],
    settings: Annotated[list[str] | None, typer.Argument(help="Overrides, for a recipe.", metavar="KEY=VALUE")] = None,
    json: AsJson = False,
) -> None:
    """Show kind, sizes and parameters by component.

    Example: clearhead info recipes/multi30k_en_de.yaml model.d_model=256
    """
    from clearhead.bundle import Bundle
    from clearhead.core.recipe import read_recipe
    from clearhead.model import ModelConfig
    from clearhead.model.accounting import parameters
    from clearhead.train import Recipe
    from clearhead.train.prepare import planned_vocabularies

    facts: dict[str, Any] = {}
    if model.is_dir():
        if settings:
            raise UsageError(
                "a trained model cannot be changed", found=settings[0], remedy="give overrides to a recipe"
            )
        bundle = Bundle.load(model)
        config, facts = bundle.model.config, bundle.history
    else:
        recipe = read_recipe(recipe_path(model), settings or [], Recipe)
        config = ModelConfig.model_validate(recipe.model.model_dump() | planned_vocabularies(recipe.tokenizer))
    facts = {"kind": config.kind, **config.model_dump(mode="json"), **parameters(config), **facts}
    print_table({name: value for name, value in facts.items() if value is not None})
    if json:
        print_json(facts)
