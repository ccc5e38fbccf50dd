"""How to search for the best continuation."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, FiniteFloat, NonNegativeFloat, PositiveInt, model_validator

from clearhead.core.errors import ConfigError
from clearhead.core.recipe import Section
from clearhead.core.registry import Choice
from clearhead.generate.searches.base import SEARCHES


class SearchConfig(Section):
    """Settings of a search; they travel with a bundle as generation_config.json.

    The method is `greedy` with one beam and `beam` with more, unless it is named.
    """

    beams: PositiveInt = 1  # hypotheses kept for each source; 1 = greedy
    n_best: PositiveInt = 1  # hypotheses returned for each source, at most `beams`
    length_penalty: FiniteFloat = 1.0  # exponent alpha of the penalty
    penalty: Literal["average", "gnmt"] = "average"  # length^alpha, or ((5 + length) / 6)^alpha
    coverage_penalty: Annotated[NonNegativeFloat, Field(allow_inf_nan=False)] = 0.0  # beta, of source tokens not read
    length_factor: Annotated[FiniteFloat, Field(ge=0.0)] = 2.0  # most target tokens for each source token,
    length_extra: PositiveInt = 20  # and so many more tokens
    max_tokens: PositiveInt | None = None  # the most new tokens, whatever the source; None = by the two above
    method: Annotated[Choice, AfterValidator(SEARCHES.check)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "SearchConfig":
        if self.n_best > self.beams:
            found = f"n_best {self.n_best}, beams {self.beams}"
            raise ConfigError("n_best must not exceed beams", found=found, remedy=f"set beams to {self.n_best} or more")
        SEARCHES.build(self.chosen, self)  # refuses what does not go with it
        return self

    @property
    def chosen(self) -> Choice:
        """The method of search, with its options."""
        return self.method or Choice(kind="greedy" if self.beams == 1 else "beam")

    def limit(self, source: int) -> int:
        """The most tokens, end of sentence included, that a source of so many tokens may be turned into."""
        return self.max_tokens or int(self.length_factor * source) + self.length_extra
