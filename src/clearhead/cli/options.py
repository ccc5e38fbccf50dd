"""Options that several commands share, and how they print."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="End standard output with one JSON document.")]
ModelFolder = Annotated[Path, typer.Argument(help="Folder of a run or of a bundle.", metavar="MODEL")]
Beams = Annotated[int | None, typer.Option(min=1, help="Hypotheses kept for each sentence; 1 = greedy.")]
LengthPenalty = Annotated[float | None, typer.Option(help="Exponent of the length penalty.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]


def print_json(value: dict[str, Any]) -> None:
    """One line of JSON on standard output."""
    print(json.dumps(value, ensure_ascii=False))


def print_table(rows: dict[str, Any]) -> None:
    """Names and values in two aligned columns."""
    width = max((len(name) for name in rows), default=0)
    for name, value in rows.items():
        shown = f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        print(f"{name.replace('_', ' '):<{width}}  {shown}")


def recipe_path(name: Path) -> Path:
    """The recipe at that path, or the one of that name that comes with the package."""
    shipped = Path(__file__).parent.parent / "recipes" / f"{name.stem}.yaml"
    return shipped if not name.exists() and shipped.exists() and len(name.parts) <= 2 else name
