"""Texts continued by an engine: text in, text out, many at once or token by token."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from clearhead.apply.writing import Writer
from clearhead.bundle import Bundle
from clearhead.core.errors import ConfigError, DataError, ModelError
from clearhead.generate.engine import Engine, EngineConfig, Record
from clearhead.generate.request import Completion, Event, Request
from clearhead.generate.sampling import SamplingConfig, Spelling
from clearhead.model import Transformer
from clearhead.text.spelling import spelling


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is wanted of the answers to a text."""

    max_tokens: int | None = None  # None = as many as the model's context has room for
    stop: Sequence[str] = ()  # strings that end an answer and are no part of it
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    n: int = 1  # answers
    log_probabilities: int | None = None  # of each chosen token, and of so many most probable ones
    deadline: float | None = None  # seconds


@dataclass(frozen=True)
class Answer:
    """One answer."""

    text: str
    completion: Completion  # its tokens, how it ended, how long it took

    @property
    def finish(self) -> str | None:
        """How it ended: stop, length, cancelled, deadline or failed."""
        return self.completion.finish


class Completer:
    """An engine that reads and writes text.

    Args:
        bundle: model and tokenizers.
        config: of the engine.
        model: computes in place of the bundle's model, as a packed copy of it does.

    Raises:
        ModelError: the model has no decoder.
        TokenizerError: it came without a tokenizer.
    """

    def __init__(self, bundle: Bundle, config: EngineConfig | None = None, *, model: Transformer | None = None) -> None:
        self.bundle = bundle
        self.engine = Engine(model or bundle.model, config, eos=bundle.target.eos)

    def request(self, text: str, wish: Wish) -> Request:
        """The request that a text stands for: its continuation, or what an encoder-decoder makes of it."""
        bundle = self.bundle
        if bundle.model.config.kind != "encoder-decoder":
            return self.continuing([*opening(bundle), *bundle.target.encode(text)], wish)
        before, after = bundle.source_frame
        source = [*before, *bundle.source.encode(text), *after]
        return self.continuing(beginning(bundle), wish, source)

    def continuing(self, prompt: Sequence[int], wish: Wish, source: Sequence[int] | None = None) -> Request:
        """The request that continues some tokens.

        Raises:
            ConfigError: a limit that is none, or settings that contradict each other.
            TokenizerError: a constraint on text, and tokens whose text depends on their neighbours.
        """
        if wish.sampling.constraint is not None:
            self.spelled()
        settings = {
            "prompt": tuple(prompt),
            "source": None if source is None else tuple(source),
            "sampling": wish.sampling,
            "max_tokens": wish.max_tokens,
            "n": wish.n,
            "log_probabilities": wish.log_probabilities,
            "deadline": wish.deadline,
        }
        try:
            return Request.model_validate(settings)
        except ValidationError as error:
            raise refusal(error) from None

    def spelled(self) -> Spelling:
        """The bytes of each token, which the engine knows from now on: constraints on text need them.

        Raises:
            TokenizerError: the text of a token depends on its neighbours.
        """
        if self.engine.spelling is None:
            target = self.bundle.target
            self.engine.spelling = Spelling(spelling(target), encode=target.encode)
        return self.engine.spelling

    def complete(
        self, requests: Sequence[Request], wish: Wish, progress: Callable[[int], None] = lambda done: None
    ) -> list[list[Answer]]:
        """The n answers to each request."""
        jobs: list[_Job] = []
        waiting = list(reversed(requests))
        try:
            going: list[_Job] = []
            while waiting or going:
                while waiting and self._room(waiting[-1].n):
                    going.append(self._job(waiting.pop(), wish))
                    jobs.append(going[-1])
                self.engine.step()
                for each in going:
                    self._write(each)
                going = [each for each in going if not each.done]
                progress(len(jobs) - len(going))
        finally:  # a refusal or an interruption leaves nothing behind
            for each in jobs:
                self.engine.cancel(each.record.number)
        return [each.answers() for each in jobs]

    def stream(self, request: Request, wish: Wish) -> Generator[str, None, None]:
        """The text of one answer in pieces; closing the stream early cancels the request.

        Raises:
            ModelError: the answer failed.
        """
        job = self._job(request, wish)
        try:
            while not job.done:
                self.engine.step()
                if piece := self._write(job):
                    yield piece
        finally:
            self.engine.cancel(job.record.number)
        if job.record.completions[0].finish == "failed":
            raise ModelError("the answer failed", found=job.record.completions[0].error)

    def _room(self, answers: int) -> bool:
        """Whether the line has room; a request beyond its whole length is left for the engine to refuse."""
        waiting = self.engine.scheduler.length
        return not waiting or waiting + answers <= self.engine.config.limits.waiting

    def _job(self, request: Request, wish: Wish) -> "_Job":
        writers = [Writer(self.bundle.target, request.prompt, wish.stop) for _ in range(request.n)]
        return _Job(self.engine.record(self.engine.submit(request)), writers)

    def _write(self, job: "_Job") -> str:
        """Write what is new; an answer with a stop string ends. Returns the new text of the first answer."""
        pieces = []
        for event in job.news():
            writer = job.writers[event.answer]
            piece = "" if event.token is None else writer.add(event.token)
            if writer.stopped is not None:
                self.engine.cancel(job.record.number, event.answer)
            if event.finish is not None:
                piece += writer.finish()
            pieces.append(piece if event.answer == 0 else "")
        return "".join(pieces)


@dataclass
class _Job:
    """A request on its way, with its texts."""

    record: Record
    writers: list[Writer]
    seen: int = 0  # events that are written

    def news(self) -> Iterator[Event]:
        """The events that are not written, those that come meanwhile included."""
        while self.seen < len(self.record.events):
            self.seen += 1
            yield self.record.events[self.seen - 1]

    @property
    def done(self) -> bool:
        """Whether all is written."""
        return not self.record.alive and self.seen == len(self.record.events)

    def answers(self) -> list[Answer]:
        """The answers, a stop string as good an end as the model's own."""
        for writer, completion in zip(self.writers, self.record.completions, strict=True):
            if writer.stopped is not None:
                completion.finish = "stop"
        return [Answer(writer.text, each) for writer, each in zip(self.writers, self.record.completions, strict=True)]


def opening(bundle: Bundle) -> list[int]:
    """The tokens before a text: those of the tokenizer's own template; for models of ours the begin of a document."""
    tokenizer = bundle.target
    whole = tokenizer.backend.encode("a", add_special_tokens=True)
    inside = [place for place, added in enumerate(whole.special_tokens_mask) if not added]
    if inside and whole.ids[: inside[0]]:
        return list(whole.ids[: inside[0]])
    if "architecture" in bundle.history or tokenizer.bos is None:
        return []
    return [tokenizer.bos]


def beginning(bundle: Bundle) -> list[int]:
    """What every target begins with: its begin, and for some models a token after it, such as the language of mBART."""
    forced = bundle.history.get("token_ids", {}).get("forced_bos")
    return [bundle.target.need("bos"), *([] if forced is None else [forced])]


def refusal(error: ValidationError) -> ConfigError:
    """What pydantic has against some settings, in one line."""
    problem = error.errors()[0]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return cause
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return ConfigError(message, where=".".join(str(each) for each in problem["loc"]), found=repr(problem["input"]))


def require_texts(texts: Sequence[str]) -> list[str]:
    """Refuse one string in place of many."""
    if isinstance(texts, str):
        raise DataError("one string is not a list of texts", remedy="pass [text]")
    return list(texts)
