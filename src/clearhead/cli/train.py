"""clearhead train: a recipe in, a model folder out."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clearhead.cli.failures import Interrupted
from clearhead.cli.options import AsJson, print_json, print_table, recipe_path
from clearhead.core.errors import UsageError

if TYPE_CHECKING:
    from clearhead.train.forecast import Forecast


def command(
    recipe: Annotated[
        Path, typer.Argument(help="A YAML recipe, or the name of one that comes with the package.", metavar="RECIPE")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Overrides such as train.updates=200.", metavar="KEY=VALUE")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME of the recipe if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what the run would take: memory, time, disk space.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Train a model from a recipe.

    A dry run prepares the data in a temporary folder, does a few updates, prints what it has measured and leaves
    nothing behind. --json is for a dry run; a run writes metrics.jsonl.

    Example: clearhead train recipes/multi30k_en_de.yaml train.updates=200 data.folder=data/multi30k
    """
    from clearhead.core.recipe import read_recipe
    from clearhead.train import Recipe, run

    _require_sense(resume=resume, dry_run=dry_run, json=json)
    path = recipe_path(recipe)
    plan, folder = read_recipe(path, settings or [], Recipe), out or Path("runs") / path.stem
    if dry_run:
        from clearhead.train.forecast import forecast

        _print(forecast(plan, folder), json=json)
        return
    try:
        bundle = run(plan, folder, resume=resume)
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted("interrupted; the same command with --resume continues") from None
    if bundle is None:
        raise typer.Exit(130)


def _require_sense(*, resume: bool, dry_run: bool, json: bool) -> None:
    if resume and dry_run:
        raise UsageError("a dry run continues nothing", found="--resume and --dry-run", remedy="leave one of them out")
    if json and not dry_run:
        raise UsageError("only a dry run prints JSON", found="--json", remedy="read metrics.jsonl in the run's folder")


def _print(found: "Forecast", *, json: bool) -> None:
    """A table in units that people read; JSON in bytes and seconds."""
    facts = asdict(found)
    print_table({name.removesuffix("_bytes").removesuffix("_seconds"): _shown(name, facts[name]) for name in facts})
    if found.disk_bytes > found.disk_free_bytes:
        print("the run needs more disk space than there is: set train.keep lower, or choose another --out")
    if json:
        print_json(facts)


def _shown(name: str, value: object) -> object:
    from clearhead.core.progress import clock

    if isinstance(value, int) and name.endswith("_bytes"):
        return f"{value / 1e6:,.1f} MB"
    return clock(value) if isinstance(value, float) and name == "training_seconds" else value
