"""The doorway of the searches: texts begun, the best continuations out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from clearhead.core.errors import ConfigError
from clearhead.core.registry import Registry

if TYPE_CHECKING:
    from clearhead.generate.searches.config import SearchConfig
    from clearhead.generate.searches.writer import Writer


@dataclass(frozen=True)
class Hypothesis:
    """One result of a search."""

    tokens: list[int]  # what was written, without begin and end of sentence
    score: float  # what the search ranks by: log-probability divided by the length penalty, less the coverage penalty;
    # of `minimum_risk` the expected likeness, 0 to 1
    log_probability: float  # nats, of the tokens and of the end of sentence, unless the length limit cut it off


class Search:
    """A way to look for good continuations. Wiring: the config.

    Raises:
        ConfigError: a setting has no meaning for this search.
    """

    ahead: ClassVar[int] = 0  # tokens that the model reads beyond those that are needed for a choice

    def __init__(self, config: "SearchConfig") -> None:
        self.config = config

    def run(self, writer: "Writer", limits: Sequence[int]) -> list[list[Hypothesis]]:
        """The n_best hypotheses of each text, best first.

        Args:
            writer: the model with its texts; the search moves it on.
            limits: for each text the most tokens of a hypothesis, end of sentence included.
        """
        raise NotImplementedError

    def refuse(self, name: str, *, unless: object) -> None:
        """Refuse a setting of the config that this search would leave out."""
        if (value := getattr(self.config, name)) != unless:
            found = f"{name} {value}"
            raise ConfigError(f"a {self.config.chosen.kind} search has no use of {name}", found=found)


SEARCHES: Registry[Search] = Registry("search")
