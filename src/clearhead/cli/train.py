"""clearhead train: a recipe in, a model folder out."""

from pathlib import Path
from typing import Annotated

import typer

from clearhead.cli.failures import Interrupted
from clearhead.cli.options import recipe_path


def command(
    recipe: Annotated[
        Path, typer.Argument(help="A YAML recipe, or the name of one that comes with the package.", metavar="RECIPE")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides such as train.updates=200.", metavar="KEY=VALUE")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME of the recipe if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False,
) -> None:
    """Train a model from a recipe.

    Example: clearhead train recipes/multi30k_en_de.yaml train.updates=200 data.folder=data/multi30k
    """
    from clearhead.core.recipe import read_recipe
    from clearhead.train import Recipe, run

    path = recipe_path(recipe)
    plan = read_recipe(path, settings or [], Recipe)
    try:
        bundle = run(plan, out or Path("runs") / path.stem, resume=resume)
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted("interrupted; the same command with --resume continues") from None
    if bundle is None:
        raise typer.Exit(130)
