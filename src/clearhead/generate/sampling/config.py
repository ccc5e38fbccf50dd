"""How the tokens of one request are chosen."""

from typing import Annotated, cast

from pydantic import AfterValidator, Field, FiniteFloat, NonNegativeInt, model_validator

from clearhead.core.errors import ConfigError
from clearhead.core.recipe import Section
from clearhead.core.registry import Choice
from clearhead.generate.sampling.base import STEPS, Step
from clearhead.generate.sampling.constraints import CONSTRAINTS

Share = Annotated[FiniteFloat, Field(gt=0.0, le=1.0)]
Token = NonNegativeInt


class SamplingConfig(Section):
    """Settings of one request; the default of each does nothing.

    A setting that is also the name of a sampler step is the `value` of that step; `steps` names others. They run in the
    order of transformers: bias, penalties, bad words, constraint, then temperature, top_k, top_p, min_p, typical.

    Raises:
        ConfigError: two settings contradict each other (pydantic's ValidationError holds it).
    """

    temperature: Annotated[FiniteFloat, Field(ge=0.0)] = 1.0  # 0 = greedy: always the most probable token
    top_k: NonNegativeInt = 0  # tokens kept; 0 = all
    top_p: Share = 1.0  # probability kept
    min_p: Annotated[FiniteFloat, Field(ge=0.0, le=1.0)] = 0.0  # of the most probable token's probability
    typical: Share = 1.0  # probability kept
    repetition_penalty: Annotated[FiniteFloat, Field(gt=0.0)] = 1.0  # divides positive logits
    frequency_penalty: FiniteFloat = 0.0  # nats for each time
    presence_penalty: FiniteFloat = 0.0  # nats
    logit_bias: dict[Token, FiniteFloat] = Field(default_factory=dict)  # token -> nats
    bad_words: tuple[Annotated[tuple[Token, ...], Field(min_length=1)], ...] = ()  # sequences that must not appear
    constraint: Annotated[Choice, AfterValidator(CONSTRAINTS.check)] | None = None  # of the whole text
    steps: tuple[Annotated[Choice, AfterValidator(STEPS.check)], ...] = ()  # further ones
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None  # None = drawn from torch's global generator

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always chosen."""
        return self.temperature == 0.0

    def choices(self) -> list[Choice]:
        """The sampler steps that do something."""
        fields = {name: each for name, each in type(self).model_fields.items() if name in STEPS.names()}
        neutral = {name: each.get_default(call_default_factory=True) for name, each in fields.items()}
        named = [name for name in fields if getattr(self, name) != neutral[name]]
        own = [Choice(kind=name, options={"value": getattr(self, name)}) for name in named]
        return [each for each in (*own, *self.steps) if not (self.greedy and each.kind == "temperature")]

    @model_validator(mode="after")
    def _greedy_or_sampled(self) -> "SamplingConfig":
        for each in self.choices():
            if self.greedy and cast(type[Step], STEPS.get(each.kind)).samples:
                found, remedy = f"temperature 0, {each.kind}", f"leave {each.kind} out, or raise the temperature"
                raise ConfigError(f"greedy search has no use of {each.kind}", found=found, remedy=remedy)
        return self

    @model_validator(mode="after")
    def _biased_or_forbidden(self) -> "SamplingConfig":
        both = sorted({word[0] for word in self.bad_words if len(word) == 1} & set(self.logit_bias))
        if both:
            raise ConfigError("logit_bias and bad_words name the same token", found=both[0], remedy="leave one out")
        return self
