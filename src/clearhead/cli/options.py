"""Options that several commands share, and how they print."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from clearhead.core.errors import UsageError

AsJson = Annotated[bool, typer.Option("--json", help="End standard output with one JSON document.")]
ModelFolder = Annotated[Path, typer.Argument(help="Folder of a run or of a bundle.", metavar="MODEL")]
Beams = Annotated[int | None, typer.Option(min=1, help="Hypotheses kept for each sentence; 1 = greedy.")]
LengthPenalty = Annotated[float | None, typer.Option(help="Exponent of the length penalty.")]
MoreSearch = Annotated[
    list[str] | None,
    typer.Option("--search", help="Any other setting of the search, e.g. method=minimum_risk.", metavar="NAME=VALUE"),
]
Weights = Annotated[
    str, typer.Option(help="float32, or int8: on a CPU faster, and nearly the same numbers.", metavar="KIND")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")]


def print_json(value: dict[str, Any]) -> None:
    """One line of JSON on standard output."""
    print(json.dumps(value, ensure_ascii=False))


def print_table(rows: dict[str, Any]) -> None:
    """Names and values in two aligned columns."""
    width = max((len(name) for name in rows), default=0)
    for name, value in rows.items():
        print(f"{name.replace('_', ' '):<{width}}  {_shown(value)}")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def recipe_path(name: Path) -> Path:
    """The recipe at that path, or the one of that name that comes with the package."""
    if name.suffix in (".yaml", ".yml") and name.exists():
        return name
    shipped = {each.stem: each for each in (Path(__file__).parent.parent / "recipes").glob("*.yaml")}
    if name.parent in (Path(), Path("recipes")) and name.suffix in ("", ".yaml") and name.stem in shipped:
        return name if name.is_file() else shipped[name.stem]
    if name.exists():
        return name
    from clearhead.core.registry import nearest  # here, because it takes a third of the time of `clearhead --help`

    names = sorted(shipped)
    expected = f"a YAML file, or one of {', '.join(names)}"
    raise UsageError("no such recipe", where=name, expected=expected, remedy=nearest(name.stem, names))


def require_file(path: Path | None) -> None:
    """Refuse a file that is not there, before a model is loaded; a pipe is a file too."""
    if path is not None and not path.exists():
        raise UsageError("no such file", where=path, remedy="check the path")
    if path is not None and path.is_dir():
        raise UsageError("a folder, not a file", where=path, remedy="name a file in it")


def setting(text: str, where: str = "--set", example: str = "vocab_size=8000") -> tuple[str, Any]:
    """Name and value of an option written name=value; the value is YAML."""
    import yaml

    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        pass
    raise UsageError("not an option", where=where, found=repr(text), expected=f"name=value, e.g. {example}")
