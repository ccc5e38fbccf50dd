"""Texts written by guessing ahead: the same answers from the same distribution, with fewer calls of the model."""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from clearhead.apply.completing import Answer, Completer, Wish
from clearhead.apply.writing import Writer
from clearhead.bundle import Bundle
from clearhead.core.errors import ClearheadError, ModelError
from clearhead.generate.request import Completion, Event, Finish, Pace, Request
from clearhead.generate.sampling import Chooser, Chosen
from clearhead.generate.speculative import DRAFTERS, SpeculationConfig, SpeculativeText
from clearhead.text import Tokenizer


@dataclass
class Guesses(Pace):
    """What guessing was worth so far."""

    passes: int = 0  # calls of the model
    proposed: int = 0  # tokens that were guessed
    accepted: int = 0  # guesses that were kept

    @property
    def acceptance_rate(self) -> float:
        """The share of guesses that were kept; 0 without any."""
        return self.accepted / self.proposed if self.proposed else 0.0

    @property
    def tokens_per_pass(self) -> float:
        """Tokens for each call of the model; 1 is what plain decoding has."""
        return self.chosen_tokens / self.passes if self.passes else 0.0


@dataclass(frozen=True, kw_only=True)
class Speculation:
    """How to guess ahead, and what it was worth.

    Args:
        config: the drafter, and how many tokens it guesses at a time.
        draft: a small model with the same vocabulary, for the drafter `draft`.
    """

    config: SpeculationConfig = field(default_factory=SpeculationConfig)
    draft: Bundle | None = None
    statistics: Guesses = field(default_factory=Guesses, init=False)


class Speculator:
    """Answers requests by guessing ahead, one after the other, with the doorways of a Completer.

    Args:
        completer: with the model, and the limits of its engine.
        speculation: how to guess.

    Raises:
        ModelError: a drafter without its model, or a draft that does not go with the model.
    """

    def __init__(self, completer: Completer, speculation: Speculation) -> None:
        self.completer, self.speculation, bundle = completer, speculation, completer.bundle
        self._clock = completer.engine.clock
        self._draft = None if speculation.draft is None else speculation.draft.model
        DRAFTERS.build(speculation.config.drafter, bundle.model, self._draft, None)
        if speculation.draft is not None:
            _require_same_words(bundle, speculation.draft)
            speculation.draft.model.to(bundle.model.output.device).eval()

    def complete(
        self, requests: Sequence[Request], wish: Wish, progress: Callable[[int], None] = lambda done: None
    ) -> list[list[Answer]]:
        """The answer to each request, in a list of its own."""
        for each in requests:
            self._check(each)
        answers: list[list[Answer]] = []
        for each in requests:
            completion, writer = Completion(), self._writer(each, wish)
            for _ in self._written(each, writer, completion):
                pass
            answers.append([Answer(writer.text, completion)])
            progress(len(answers))
        return answers

    def stream(self, request: Request, wish: Wish) -> Generator[str, None, None]:
        """The text of the answer in pieces.

        Raises:
            ModelError: the answer failed.
        """
        self._check(request)
        return self._streamed(request, self._writer(request, wish))

    def _streamed(self, request: Request, writer: Writer) -> Generator[str, None, None]:
        completion = Completion()
        yield from filter(None, self._written(request, writer, completion))
        if completion.finish == "failed":
            raise ModelError("the answer failed", found=completion.error)

    def _check(self, request: Request) -> None:
        self.completer.engine.admission.check(request)
        if request.n > 1:
            remedy = "ask for one answer, or leave speculation out"
            raise ModelError("guessing ahead writes one answer at a time", found=f"n {request.n}", remedy=remedy)

    def _writer(self, request: Request, wish: Wish) -> Writer:
        return Writer(self.completer.bundle.target, request.prompt, wish.stop)

    def _written(self, request: Request, writer: Writer, completion: Completion) -> Generator[str, None, None]:
        """The text of an answer in pieces; the completion is filled on the way."""
        started = self._clock()
        self.speculation.statistics.requests += 1
        try:
            for event in self._events(request, started):
                completion.add(event)
                self._note_first(completion, started)
                piece = "" if event.token is None else writer.add(event.token)
                if writer.stopped is not None:
                    completion.finish = "stop"
                yield piece + writer.finish() if completion.finish else piece
                if completion.finish:
                    return
        finally:
            completion.seconds = self._clock() - started
            self.speculation.statistics.answers += 1

    def _note_first(self, completion: Completion, started: float) -> None:
        """How long the first token took."""
        if completion.first_token_seconds is None and completion.finish not in ("deadline", "failed"):
            completion.first_token_seconds = self._clock() - started
            self.speculation.statistics.answered += 1
            self.speculation.statistics.first_token_seconds += completion.first_token_seconds

    def _events(self, request: Request, started: float) -> Generator[Event, None, None]:
        """The tokens of an answer, and its end."""
        text, stops = self._text(request), {*request.stop, self.completer.engine.eos}
        late = math.inf if request.deadline is None else started + request.deadline
        while not text.done:
            if self._clock() > late:
                yield _end("deadline")
                return
            try:
                written = self._step(text)
            except ClearheadError as error:
                yield _end("failed", str(error))
                return
            for place, (chosen, logits) in enumerate(written, start=len(text.found.chosen) - len(written) + 1):
                yield _event(chosen, logits, request, finish=_finish(chosen.token in stops, place >= text.limit))

    def _text(self, request: Request) -> SpeculativeText:
        engine = self.completer.engine
        return SpeculativeText(
            engine.model,
            request.prompt,
            request.sampling,
            self.speculation.config,
            max_tokens=engine.admission.most(request),
            eos=engine.eos,
            draft=self._draft,
            source=request.source,
            spelling=engine.spelling,
        )

    def _step(self, text: SpeculativeText) -> list[tuple[Chosen, Tensor]]:
        """The next tokens, each with the logits that it was chosen by, (vocab,); counted."""
        counts, found, started = self.speculation.statistics, text.found, self._clock()
        before = (found.passes, found.proposed, found.accepted)
        try:
            chosen, logits = text.step()
        finally:
            counts.passes += found.passes - before[0]
            counts.proposed += found.proposed - before[1]
            counts.accepted += found.accepted - before[2]
            counts.seconds += self._clock() - started
        counts.chosen_tokens += len(chosen)
        return list(zip(chosen, logits, strict=True))


def _finish(ended: bool, full: bool) -> Finish | None:  # noqa: FBT001
    return "stop" if ended else "length" if full else None


def _event(chosen: Chosen, logits: Tensor, request: Request, *, finish: Finish | None) -> Event:
    """A token as the engine tells it; the one that ends a text is no part of it."""
    wanted = request.log_probabilities
    top = tuple(Chooser.top(logits, wanted)) if wanted else ()
    log_probability = None if wanted is None else chosen.log_probability
    return Event(0, 0, None if finish == "stop" else chosen.token, log_probability, top, finish)


def _end(finish: Finish, error: str | None = None) -> Event:
    return Event(0, 0, finish=finish, error=error)


def _require_same_words(bundle: Bundle, draft: Bundle) -> None:
    """Refuse a draft model whose ids mean other tokens."""
    _require_same("target", bundle.target, draft.target)
    if draft.model.config.encoder_layers:
        _require_same("source", bundle.source, draft.source)


def _require_same(side: str, own: Tokenizer, other: Tokenizer) -> None:
    ours, theirs = (list(each.vocabulary().items()) for each in (own, other))
    if ours == theirs:
        return
    found, expected = next(((b, a) for a, b in zip(ours, theirs, strict=False) if a != b), (len(theirs), len(ours)))
    shown = [f"{each[0]!r} as token {each[1]}" if isinstance(each, tuple) else f"{each:,} tokens"
             for each in (found, expected)]  # fmt: skip
    what, remedy = f"the draft model has another {side} vocabulary", "take a model with the same tokenizer"
    raise ModelError(what, found=shown[0], expected=shown[1], remedy=remedy)
