"""What is asked of an engine, and what it answers. Ids only."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator

from clearhead.core.errors import ConfigError, ModelError
from clearhead.core.recipe import Section
from clearhead.generate.sampling import SamplingConfig

Finish = Literal["stop", "length", "cancelled", "deadline", "failed"]
Seconds = Annotated[FiniteFloat, Field(gt=0.0)]
Ids = tuple[NonNegativeInt, ...]


class BusyError(ModelError):
    """The engine has as many requests as it may hold: ask again later."""


class Request(Section):
    """A text to be continued, or a source to be turned into one.

    Raises:
        ConfigError: settings that contradict each other (pydantic's ValidationError holds it).
    """

    prompt: Ids  # what the decoder has read; of an encoder-decoder at least the begin of a text
    source: Ids | None = None  # what the encoder reads; None for a model that has none
    sampling: SamplingConfig = SamplingConfig()
    max_tokens: PositiveInt | None = None  # tokens of an answer; None = as many as the model's context has room for
    stop: Ids = ()  # tokens that end an answer, besides the model's own end
    n: PositiveInt = 1  # answers; each draws its own random numbers
    log_probabilities: NonNegativeInt | None = None  # of each chosen token, and of so many most probable ones
    priority: int = 0  # the more, the sooner
    deadline: Seconds | None = None  # seconds after which it is given up

    @model_validator(mode="after")
    def _fits_together(self) -> "Request":
        if self.n > 1 and self.sampling.greedy:
            found, remedy = f"n {self.n}, temperature 0", "set n to 1, or raise the temperature"
            raise ConfigError("greedy search has one answer only", found=found, remedy=remedy)
        return self


@dataclass(frozen=True, slots=True)
class Event:
    """One token of one answer, or its end."""

    request: int
    answer: int  # which of the n answers, counted from 0
    token: int | None = None  # None: the answer ended without another one
    log_probability: float | None = None  # nats, where it was asked for; with the finish `stop` that of the end
    top: tuple[tuple[int, float], ...] = ()  # the most probable tokens and their log-probabilities
    finish: Finish | None = None  # set in the last event of an answer
    error: str | None = None  # what went wrong, if the finish is `failed`
    internal: bool = False  # it went wrong in the engine or the model: the request may be right


@dataclass
class Completion:
    """One answer. `add` takes its events in order."""

    tokens: list[int] = field(default_factory=list)  # without prompt and end
    log_probabilities: list[float] = field(default_factory=list)  # of each token, where asked for
    top: list[tuple[tuple[int, float], ...]] = field(default_factory=list)  # likewise
    finish: Finish | None = None
    error: str | None = None
    first_token_seconds: float | None = None  # from submission to the first token
    seconds: float = 0.0  # from submission to the end

    def add(self, event: Event) -> None:
        """Take in the next event."""
        self.finish, self.error = event.finish, event.error
        if event.token is None:
            return
        self.tokens.append(event.token)
        if event.log_probability is not None:
            self.log_probabilities.append(event.log_probability)
            self.top.append(event.top)


@dataclass
class Load:
    """What an engine holds now."""

    running: int = 0  # samples
    waiting: int = 0
    blocks: int = 0
    blocks_held: int = 0
    most_blocks_held: int = 0  # at any time so far
    cache_bytes: int = 0


@dataclass
class Pace:
    """How many tokens were written for how many requests, and how fast."""

    requests: int = 0  # submitted
    answers: int = 0  # ended, for whatever reason
    chosen_tokens: int = 0
    seconds: float = 0.0  # of computing
    answered: int = 0  # that have had a first token
    first_token_seconds: float = 0.0  # summed over `answered`

    @property
    def tokens_per_second(self) -> float:
        """Chosen tokens in a second of computing."""
        return self.chosen_tokens / self.seconds if self.seconds else 0.0

    @property
    def mean_first_token_seconds(self) -> float:
        """How long an answer's first token took, on average."""
        return self.first_token_seconds / self.answered if self.answered else 0.0


@dataclass
class Statistics(Pace):
    """What an engine has done since it was made, and what it holds now."""

    steps: int = 0  # model steps
    read_tokens: int = 0  # of prompts and sources, those read anew after a preemption included
    preemptions: int = 0
    load: Load = field(default_factory=Load)
