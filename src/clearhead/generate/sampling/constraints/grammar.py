"""Text that a context-free grammar derives."""

from typing import Any

from clearhead.generate.sampling.constraints.base import CONSTRAINTS
from clearhead.generate.sampling.constraints.guided import Guided


@CONSTRAINTS.register("grammar")
class Grammar(Guided):
    """The whole output is derived from the rule `start`; options: rules, in llguidance's dialect of Lark."""

    def __init__(self, *, rules: str) -> None:
        self.rules = rules

    def grammar(self, library: Any) -> str:
        text: str = library.LLMatcher.grammar_from_lark(self.rules)
        return text
