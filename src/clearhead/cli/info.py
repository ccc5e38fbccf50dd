"""clearhead info: what is in a model or what a recipe would build, and what it costs."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearhead.cli.options import AsJson, print_json, print_table, recipe_path
from clearhead.core.errors import UsageError

if TYPE_CHECKING:
    from clearhead.model import ModelConfig
    from clearhead.model.accounting import Account

HEADINGS = {
    "parameters": "parameters",
    "forward_flops": "forward FLOPs",
    "backward_flops": "backward FLOPs",
    "activation_bytes": "activations B",
    "cache_bytes": "cache B",
    "optimizer_bytes": "optimiser B, all",
}


def command(
    model: Annotated[Path, typer.Argument(help="Folder of a model, or a recipe.", metavar="MODEL|RECIPE")],
    settings: Annotated[list[str] | None, typer.Argument(help="Overrides, for a recipe.", metavar="KEY=VALUE")] = None,
    length: Annotated[int | None, typer.Option(min=1, help="Tokens of a sequence; model.length if not given.")] = None,
    json: AsJson = False,
) -> None:
    """Show kind and sizes, and by component: parameters, FLOPs, and bytes of activations, cache and optimiser.

    Operations and bytes are those of one token in a sequence of so many tokens on each side, in float32; FLOPs count
    matrix products, activations are what training keeps for the backward pass.

    Example: clearhead info recipes/multi30k_en_de.yaml model.d_model=256 --length 100
    """
    from clearhead.model.accounting import account
    from clearhead.train.optimizers import states

    config, optimizer, facts = _read(model, settings or [])
    costs = account(config, length or config.length, states=states(optimizer))
    facts = {"kind": config.kind, **config.model_dump(mode="json"), "parameters": costs.total.parameters, **facts}
    print_table({name: value for name, value in facts.items() if value is not None})
    _print_costs(costs)
    if json:
        components = {name: asdict(line) for name, line in costs.lines.items()}
        print_json({**facts, "at_length": costs.length, "components": components, "total": asdict(costs.total)})


def _read(model: Path, settings: list[str]) -> "tuple[ModelConfig, Any, dict[str, Any]]":
    """The config, the optimiser that it is or will be trained with, and what is known of its training."""
    from clearhead.bundle import Bundle
    from clearhead.core.recipe import read_recipe
    from clearhead.core.registry import Choice
    from clearhead.model import ModelConfig
    from clearhead.train import Recipe
    from clearhead.train.prepare import planned_vocabularies

    if model.is_dir():
        if settings:
            remedy = "give overrides to a recipe"
            raise UsageError("a trained model cannot be changed", found=settings[0], remedy=remedy)
        bundle = Bundle.load(model)
        return bundle.model.config, Choice(kind="adam"), bundle.history
    recipe = read_recipe(recipe_path(model), settings, Recipe)
    values = recipe.model.model_dump() | planned_vocabularies(recipe.tokenizer)
    return ModelConfig.model_validate(values), recipe.train.optimizer, {}


def _print_costs(costs: "Account") -> None:
    """One line for each component, numbers under their headings."""
    rows = [["", *HEADINGS.values()]]
    for name, line in (*costs.lines.items(), ("in all", costs.total)):
        rows.append([name, *(f"{getattr(line, each):,.0f}" for each in HEADINGS)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"\nfor each token of {costs.length:,}, in float32:")
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
