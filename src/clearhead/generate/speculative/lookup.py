"""Guesses by repetition: what followed the last words when they stood in the text before.

Source: prompt lookup decoding, Saxena, 2023; the copies of Yang et al., 2023, arXiv:2304.04487.
"""

from collections.abc import Sequence

from pydantic import PositiveInt

from clearhead.core.errors import ModelError
from clearhead.generate.sampling import Chooser
from clearhead.generate.speculative.base import DRAFTERS, Drafter, Proposal
from clearhead.model import Transformer


@DRAFTERS.register("lookup")
class Lookup(Drafter):
    """Copies from the text, the newest place first; a source of the same vocabulary is read as if it came before.

    Args:
        longest: tokens that must agree, tried from the longest run down to one token.
    """

    def __init__(
        self,
        model: Transformer,
        draft: Transformer | None,
        source: Sequence[int] | None,
        *,
        longest: PositiveInt = 3,
    ) -> None:
        super().__init__(model, draft, source)
        if draft is not None:
            remedy = "leave it out, or use the drafter draft"
            raise ModelError("the drafter lookup has no use of a draft model", remedy=remedy)
        self.longest = longest

    def propose(self, written: Sequence[int], chooser: Chooser, count: int, eos: int | None) -> list[Proposal]:
        before = list(self.source or ()) if self.model.config.one_table else []
        text = before + list(written)
        for size in range(min(self.longest, len(written)), 0, -1):
            copied = _after(text, text[-size:])[:count]
            if copied:
                end = copied.index(eos) + 1 if eos in copied else len(copied)
                return [Proposal(token) for token in copied[:end]]
        return []


def _after(text: list[int], run: list[int]) -> list[int]:
    """What follows the last place of the run before the end of the text; nothing where there is none."""
    for start in range(len(text) - len(run) - 1, -1, -1):
        if text[start : start + len(run)] == run:
            return text[start + len(run) :]
    return []
