"""Speculative decoding: a guess of several tokens, one pass of the model to judge them all."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import AfterValidator, PositiveInt
from torch import Tensor

from clearhead.core.errors import ModelError
from clearhead.core.recipe import Section
from clearhead.core.registry import Choice
from clearhead.generate.sampling import Chooser, Chosen, SamplingConfig, Spelling
from clearhead.generate.speculative.base import DRAFTERS
from clearhead.generate.speculative.reader import Reader
from clearhead.generate.speculative.verify import verify
from clearhead.model import Transformer


class SpeculationConfig(Section):
    """How to guess ahead."""

    drafter: Annotated[Choice, AfterValidator(DRAFTERS.check)] = Choice(kind="lookup")
    tokens: PositiveInt = 4  # guesses for each pass of the model


@dataclass
class Speculated:
    """A text, and what guessing was worth."""

    chosen: list[Chosen] = field(default_factory=list)
    passes: int = 0  # of the model
    proposed: int = 0  # guesses
    accepted: int = 0  # guesses that were kept

    @property
    def tokens(self) -> list[int]:
        """What was written, the end of text included if it came."""
        return [each.token for each in self.chosen]

    @property
    def acceptance_rate(self) -> float:
        """The share of guesses that were kept; 0 without any."""
        return self.accepted / self.proposed if self.proposed else 0.0

    @property
    def tokens_per_pass(self) -> float:
        """Tokens for each pass of the model; 1 is what plain decoding has."""
        return len(self.chosen) / self.passes if self.passes else 0.0


class SpeculativeText:
    """One text on its way: each step guesses some tokens and judges them.

    Args:
        model: a decoder-only model or an encoder-decoder, in eval mode.
        prompt: what the decoder begins with: the prompt, or the begin of sentence of an encoder-decoder.
        sampling: how tokens are chosen.
        config: how to guess.
        max_tokens: the most tokens to write, the end of text included.
        eos: the token that ends the text; None = there is none.
        draft: a smaller model with the same vocabulary, for the drafter `draft`.
        source: what an encoder-decoder reads.
        spelling: the bytes of each token, for a constraint.

    Raises:
        ModelError: nothing to begin with, a prompt longer than the model's positions, models that do not go together.
    """

    def __init__(
        self,
        model: Transformer,
        prompt: Sequence[int],
        sampling: SamplingConfig,
        config: SpeculationConfig,
        *,
        max_tokens: int,
        eos: int | None,
        draft: Transformer | None = None,
        source: Sequence[int] | None = None,
        spelling: Spelling | None = None,
    ) -> None:
        self.limit, self.eos, self.guesses = _limit(model, prompt, max_tokens), eos, config.tokens
        self.drafter = DRAFTERS.build(config.drafter, model, draft, source)
        self.chooser = Chooser(sampling, prompt, vocab=len(model.output), eos=eos, spelling=spelling)
        self.reader = Reader(model, source, eos)
        self.text, self.found = list(prompt), Speculated()  # all that the decoder has read or chosen; the new part

    @property
    def done(self) -> bool:
        """Whether the text has ended, or reached its limit."""
        written = self.found.chosen
        return len(written) >= self.limit or (bool(written) and written[-1].token == self.eos)

    @torch.inference_mode()
    def step(self) -> tuple[list[Chosen], Tensor]:
        """Write some tokens, one at least: they, and the model's logits before each, (written, vocab).

        Raises:
            ModelError: the logits are not numbers, or every token is forbidden.
        """
        found = self.found
        count = min(self.guesses, self.limit - len(found.chosen) - 1)
        proposals = self.drafter.propose(self.text, self.chooser.fork(), count, self.eos) if count else []
        logits = self.reader.read([*self.text, *(each.token for each in proposals)], len(proposals) + 1)
        chosen, accepted = verify(self.chooser, proposals, logits, self.eos)
        found.chosen += chosen
        self.text += [each.token for each in chosen]
        found.passes, found.proposed = found.passes + 1, found.proposed + len(proposals)
        found.accepted += accepted
        return chosen, logits[: len(chosen)]


def speculate(
    model: Transformer,
    prompt: Sequence[int],
    sampling: SamplingConfig,
    config: SpeculationConfig,
    *,
    max_tokens: int,
    eos: int | None,
    draft: Transformer | None = None,
    source: Sequence[int] | None = None,
    spelling: Spelling | None = None,
) -> Speculated:
    """Write one text, from the same distribution as token by token; with temperature 0 the same tokens.

    Arguments and errors are those of `SpeculativeText` and its `step`.
    """
    text = SpeculativeText(
        model,
        prompt,
        sampling,
        config,
        max_tokens=max_tokens,
        eos=eos,
        draft=draft,
        source=source,
        spelling=spelling,
    )
    while not text.done:
        text.step()
    return text.found


def _limit(model: Transformer, prompt: Sequence[int], most: int) -> int:
    """The most tokens that may be written: what is asked for, and the model's positions reach."""
    if not len(prompt):
        raise ModelError("there is nothing to begin with", expected="a prompt of one token or more")
    if most < 1:
        raise ModelError("nothing may be written", found=f"max_tokens {most}", expected="1 or more")
    reach = model.longest_target
    if reach is None:
        return most
    if len(prompt) > reach:
        expected = f"at most {reach}"
        raise ModelError("a prompt is longer than the model's positions", found=len(prompt), expected=expected)
    return min(most, reach - len(prompt) + 1)
