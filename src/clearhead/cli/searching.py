"""Search settings of the command line on top of those of a bundle."""

from pydantic import ValidationError

from clearhead.core.errors import UsageError
from clearhead.generate import SearchConfig


def adjusted(
    search: SearchConfig, *, beams: int | None, n_best: int = 1, length_penalty: float | None = None
) -> SearchConfig:
    """The bundle's settings with what the user gave; enough beams for n_best if no number was given."""
    given = {"beams": beams or max(search.beams, n_best), "n_best": n_best}
    if length_penalty is not None:
        given["length_penalty"] = length_penalty  # type: ignore[assignment]
    try:
        return SearchConfig.model_validate(search.model_dump() | given)
    except ValidationError as error:
        raise UsageError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
