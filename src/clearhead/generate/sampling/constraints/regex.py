"""Text that a regular expression matches."""

from typing import Any

from clearhead.generate.sampling.constraints.base import CONSTRAINTS
from clearhead.generate.sampling.constraints.guided import Guided


@CONSTRAINTS.register("regex")
class Regex(Guided):
    """The whole output matches the pattern; options: pattern, in the notation of Rust's regex library."""

    def __init__(self, *, pattern: str) -> None:
        self.pattern = pattern

    def grammar(self, library: Any) -> str:
        text: str = library.LLMatcher.grammar_from_regex(self.pattern)
        return text
