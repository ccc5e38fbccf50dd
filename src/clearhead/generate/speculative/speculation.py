"""Speculative decoding: a guess of several tokens, one pass of the model to judge them all."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import AfterValidator, PositiveInt

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


@torch.inference_mode()
def speculate(
    model: Transformer,
    prompt: Sequence[int],
    sampling: SamplingConfig,
    config: SpeculationConfig,
    *,
    max_tokens: int,
    eos: int,
    draft: Transformer | None = None,
    source: Sequence[int] | None = None,
    spelling: Spelling | None = None,
) -> Speculated:
    """Write one text, from the same distribution as token by token; with temperature 0 the same tokens.

    Args:
        model: a decoder-only model or an encoder-decoder, in eval mode.
        prompt: what the decoder begins with: the prompt, or the begin of sentence of an encoder-decoder.
        sampling: how tokens are chosen.
        config: how to guess.
        max_tokens: the most tokens to write, the end of text included.
        eos: the token that ends the text.
        draft: a smaller model with the same vocabulary, for the drafter `model`.
        source: what an encoder-decoder reads.
        spelling: the bytes of each token, for a constraint.

    Raises:
        ModelError: nothing to begin with, a prompt longer than the model's positions, models that do not go together.
    """
    limit = _limit(model, draft, prompt, max_tokens)
    drafter = DRAFTERS.build(config.drafter, model, draft, source)
    chooser = Chooser(sampling, prompt, vocab=len(model.output), eos=eos, spelling=spelling)
    reader, written, found = Reader(model, source, eos), list(prompt), Speculated()
    while len(found.chosen) < limit and (not found.chosen or written[-1] != eos):
        count = min(config.tokens, limit - len(found.chosen) - 1)
        proposals = drafter.propose(written, chooser.fork(), count, eos) if count else []
        logits = reader.read([*written, *(each.token for each in proposals)], len(proposals) + 1)
        chosen, accepted = verify(chooser, proposals, logits, eos)
        found.chosen += chosen
        written += [each.token for each in chosen]
        found.passes, found.proposed = found.passes + 1, found.proposed + len(proposals)
        found.accepted += accepted
    return found


def _limit(model: Transformer, draft: Transformer | None, prompt: Sequence[int], most: int) -> int:
    """The most tokens that may be written: what is asked for, and the positions of both models reach."""
    if not len(prompt):
        raise ModelError("there is nothing to begin with", expected="a prompt of one token or more")
    if most < 1:
        raise ModelError("nothing may be written", found=f"max_tokens {most}", expected="1 or more")
    reaches = [each.longest_target for each in (model, draft) if each is not None]
    reach = min((each for each in reaches if each is not None), default=len(prompt) + most)
    if len(prompt) > reach:
        expected = f"at most {reach}"
        raise ModelError("a prompt is longer than the model's positions", found=len(prompt), expected=expected)
    return min(most, reach - len(prompt) + 1)
