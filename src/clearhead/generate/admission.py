"""Which requests a model can serve at all, and how far."""

from collections.abc import Sequence

from clearhead.core.errors import DataError, ModelError
from clearhead.generate.request import Request
from clearhead.generate.scheduler import Limits
from clearhead.model import Transformer


class Admission:
    """The bounds of one model on one engine.

    Args:
        model: a decoder-only model or an encoder-decoder.
        context: the most tokens that the decoder reads of one sample.
        room: tokens of all samples together.
        limits: of a step.

    Raises:
        ModelError: the model has no decoder, is in training mode, or cannot read so far.
    """

    def __init__(self, model: Transformer, context: int, room: int, limits: Limits) -> None:
        if not model.config.decoder_layers:
            raise ModelError("an encoder-only model continues no text", remedy="take a model with a decoder")
        if model.training:
            raise ModelError("a model in training mode drops features at random", remedy="call model.eval() first")
        if model.longest_target is not None and context > model.longest_target:
            found, expected = f"context {context:,}", f"at most {model.longest_target:,}"
            raise ModelError("the model's positions do not reach so far", found=found, expected=expected)
        self.config, self.context, self.room = model.config, context, room
        self.vocab = model.config.target_vocab or model.config.source_vocab
        self.longest_source = min(model.config.length, limits.step_tokens - limits.rows)

    def check(self, request: Request) -> None:
        """Refuse with a DataError what can never be served."""
        reads = self.config.kind == "encoder-decoder"
        if reads != (request.source is not None):
            remedy = "pass source=" if reads else "leave source out"
            raise DataError(f"what this model reads does not fit: it is {self.config.kind}", remedy=remedy)
        self._check_ids(request.prompt, "prompt", self.vocab)
        if request.stop:
            self._check_ids(request.stop, "stop", self.vocab)
        longest = min(self.context, self.room)
        if len(request.prompt) > longest:
            what = "context" if longest == self.context else "memory that the engine has"
            raise _too_long(f"the prompt is longer than the {what}", len(request.prompt), longest, "shorten it")
        if request.source is not None:
            self._check_ids(request.source, "source", self.config.source_vocab or self.config.target_vocab)
            if len(request.source) > self.longest_source:
                ours = self.longest_source < self.config.length
                what = "the source is longer than " + ("a step reads" if ours else "the model was made for")
                remedy = "raise limits.step_tokens, or shorten it" if ours else "shorten it"
                raise _too_long(what, len(request.source), self.longest_source, remedy)

    def most(self, request: Request) -> int:
        """The most tokens that an answer may have; the last one need not be read."""
        room = min(self.context, self.room) + 1 - len(request.prompt)
        return room if request.max_tokens is None else min(room, request.max_tokens)

    @staticmethod
    def _check_ids(ids: Sequence[int], what: str, vocab: int) -> None:
        if not ids:
            raise DataError(f"the {what} is empty", expected="at least one token, such as the begin of a text")
        if max(ids) >= vocab:
            wrong = next(each for each in ids if each >= vocab)
            raise DataError(f"the {what} has an unknown token", found=wrong, expected=f"0 to {vocab - 1}")


def _too_long(what: str, found: int, longest: int, remedy: str) -> DataError:
    return DataError(what, found=f"{found:,} tokens", expected=f"at most {longest:,}", remedy=remedy)
