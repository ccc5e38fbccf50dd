"""Guesses of a smaller model with the same vocabulary (Leviathan et al., 2023, arXiv:2211.17192)."""

from collections.abc import Sequence

from clearhead.core.errors import ModelError
from clearhead.generate.sampling import Chooser
from clearhead.generate.speculative.base import DRAFTERS, Drafter, Proposal
from clearhead.generate.speculative.reader import Reader
from clearhead.model import Transformer


@DRAFTERS.register("draft")
class DraftModel(Drafter):
    """The small model writes ahead, sampling as the request says; beyond its own positions it guesses nothing."""

    def __init__(self, model: Transformer, draft: Transformer | None, source: Sequence[int] | None) -> None:
        super().__init__(model, draft, source)
        if draft is None:
            raise ModelError("there is no model to draft with", remedy="give one, or use the drafter lookup")
        require_draft(model, draft)
        self.reach = draft.longest_target
        self.reader: Reader | None = None

    def propose(self, written: Sequence[int], chooser: Chooser, count: int, eos: int | None) -> list[Proposal]:
        assert self.draft is not None
        if self.reader is None:
            self.reader = Reader(self.draft, self.source, eos)
        if self.reach is not None:
            count = min(count, self.reach + 1 - len(written))
        text, found = list(written), list[Proposal]()
        while len(found) < count and (not found or text[-1] != eos):
            probabilities = chooser.probabilities(self.reader.read(text, 1)[0])
            found.append(Proposal(chooser.draw(probabilities), probabilities))
            text.append(found[-1].token)
            chooser.advance(text[-1])
        return found


def require_draft(model: Transformer, draft: Transformer) -> None:
    """Refuse with a ModelError a draft model that cannot write ahead of this one."""
    if not draft.config.decoder_layers:
        raise ModelError("an encoder-only model writes nothing", found="the draft model", remedy="take another draft")
    if draft.config.encoder_layers and not model.config.encoder_layers:
        remedy = "take a decoder-only draft"
        raise ModelError("the draft model reads a source, and this model has none", remedy=remedy)
    sizes = [f"{len(each.output):,} tokens" for each in (draft, model)]
    if sizes[0] != sizes[1]:
        raise ModelError("the draft model has another vocabulary", found=sizes[0], expected=sizes[1])
