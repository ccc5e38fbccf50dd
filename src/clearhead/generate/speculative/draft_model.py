"""Guesses of a smaller model with the same vocabulary (Leviathan et al., 2023, arXiv:2211.17192)."""

from collections.abc import Sequence

from clearhead.core.errors import ModelError
from clearhead.generate.sampling import Chooser
from clearhead.generate.speculative.base import DRAFTERS, Drafter, Proposal
from clearhead.generate.speculative.reader import Reader
from clearhead.model import Transformer


@DRAFTERS.register("model")
class DraftModel(Drafter):
    """The small model writes ahead, sampling as the request says."""

    def __init__(self, model: Transformer, draft: Transformer | None, source: Sequence[int] | None) -> None:
        super().__init__(model, draft, source)
        if draft is None:
            raise ModelError("there is no model to draft with", remedy="pass draft=, or use the drafter lookup")
        sizes = [len(each.output) for each in (draft, model)]
        if sizes[0] != sizes[1]:
            raise ModelError("the draft model has another vocabulary", found=sizes[0], expected=sizes[1])
        self.reader: Reader | None = None

    def propose(self, written: Sequence[int], chooser: Chooser, count: int, eos: int) -> list[Proposal]:
        assert self.draft is not None
        if self.reader is None:
            self.reader = Reader(self.draft, self.source, eos)
        text, found = list(written), list[Proposal]()
        while len(found) < count and (not found or text[-1] != eos):
            probabilities = chooser.probabilities(self.reader.read(text, 1)[0])
            found.append(Proposal(chooser.draw(probabilities), probabilities))
            text.append(found[-1].token)
            chooser.advance(text[-1])
        return found
