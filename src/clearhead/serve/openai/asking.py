"""What completions and conversations are asked with alike."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import Field, FiniteFloat, NonNegativeInt, ValidationError

from clearhead.apply.completing import refusal
from clearhead.core.errors import ConfigError, ModelError
from clearhead.core.recipe import Section
from clearhead.core.registry import Choice
from clearhead.generate import SamplingConfig
from clearhead.generate.sampling.base import Context
from clearhead.generate.sampling.constraints import CONSTRAINTS
from clearhead.serve.hall import Hall, Served

Value = TypeVar("Value")
WAYS: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {}, "text/event-stream": {}}}}
SHORT = 4_000  # characters that are cut into tokens on the event loop
StopString = Annotated[str, Field(min_length=1, max_length=1_000)]
Penalty = Annotated[FiniteFloat, Field(ge=-2.0, le=2.0)]
Bias = Annotated[FiniteFloat, Field(ge=-100.0, le=100.0)]
TopLogprobs = Annotated[int, Field(ge=0, le=20)]
SAMPLING = (  # settings that have the same name in SamplingConfig
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "top_k",
    "min_p",
    "repetition_penalty",
)
SHAPING = ("top_p", "top_k", "min_p")  # without any effect where the most probable token is taken


class StreamOptions(Section):
    """What a stream tells besides the answer."""

    include_usage: bool | None = None  # a last event with the number of tokens
    include_obfuscation: Any = None  # not needed: answers go in parts of any length


class Asked(Section):
    """Settings of one call; null is the same as nothing. Those marked as ours OpenAI does not have."""

    model: str | None = None  # None = the first one that is served
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    temperature: Annotated[FiniteFloat, Field(ge=0.0, le=100.0)] | None = None
    top_p: Annotated[FiniteFloat, Field(gt=0.0, le=1.0)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[NonNegativeInt, Bias], Field(max_length=1_024)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    top_k: NonNegativeInt | None = None  # ours
    min_p: Annotated[FiniteFloat, Field(ge=0.0, le=1.0)] | None = None  # ours
    repetition_penalty: Annotated[FiniteFloat, Field(gt=0.0)] | None = None  # ours

    user: Any = None  # this and what follows changes no answer
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None

    @property
    def stops(self) -> list[str]:
        """Strings that end an answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with the number of tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(self, constraint: Choice | None = None) -> SamplingConfig:
        """How tokens are chosen.

        Raises:
            ConfigError: settings that contradict each other.
        """
        given = {name: value for name in SAMPLING if (value := vars(self)[name]) is not None}
        if self.temperature == 0.0:
            given = {name: value for name, value in given.items() if name not in SHAPING}
        seed = None if self.seed is None else self.seed % 2**62  # that of a later answer is larger
        try:
            return SamplingConfig.model_validate({**given, "seed": seed, "constraint": constraint})
        except ValidationError as error:
            raise refusal(error) from None


def refuse(name: str | None, value: object) -> object:
    """Refuse a parameter of OpenAI's that asks for what we do not do; empty values ask for nothing."""
    if value not in (None, [], {}, "none"):
        raise ConfigError(f"this server has no {name}", remedy="leave it out")
    return value


async def prepared(hall: Hall, size: int, work: Callable[[], Value]) -> Value:
    """What is made of a prompt of so many characters: here if it is short, elsewhere if it takes long."""
    return work() if size <= SHORT else await hall.compute(work)


async def check_constraint(hall: Hall, served: Served, choice: Choice | None) -> None:
    """Refuse a constraint that nobody can keep before the engine has to read it."""
    if choice is None:
        return
    completer = served.model.completer

    def work() -> None:
        vocab, eos = completer.engine.admission.vocab, completer.engine.eos
        context = Context(prompt=(), vocab=vocab, eos=eos, spelling=completer.spelled())
        CONSTRAINTS.build(choice).matcher(context)

    await hall.compute(work)


def require_writer(served: Served) -> None:
    """Refuse a model that continues nothing."""
    if served.engine is None:
        remedy = "ask for its embeddings, or take a model with a decoder"
        raise ModelError(f"this model is {served.kind}: it continues no text", remedy=remedy)
