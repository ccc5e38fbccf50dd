"""What commands that write texts tell about them: options, and how it is shown."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clearhead.core.errors import UsageError

if TYPE_CHECKING:
    from clearhead.apply import Model

LogProbabilities = Annotated[
    int | None, typer.Option(min=0, help="With --json: of each token, and of so many most probable ones.")
]
Stats = Annotated[bool, typer.Option("--stats", help="Tell times, counts and memory on standard error.")]


def require_json(log_probabilities: int | None, *, as_json: bool) -> None:
    """Refuse to compute what would not be shown."""
    if log_probabilities is not None and not as_json:
        what = "log-probabilities are told in the JSON document only"
        raise UsageError(what, where="--log-probabilities", remedy="add --json")


def tell(statistics: dict[str, Any]) -> None:
    """One line for each number on standard error."""
    for name, value in statistics.items():
        print(f"{name.replace('_', ' ')}: {value:,.6g}", file=sys.stderr)


def of_engine(model: "Model") -> dict[str, Any]:
    """What the engine of a model has done, and holds."""
    done = model.completer.engine.statistics
    rates = {"tokens_per_second": done.tokens_per_second, "mean_first_token_seconds": done.mean_first_token_seconds}
    counts = asdict(done)
    load = counts.pop("load")
    return {**counts, **load, **rates}
