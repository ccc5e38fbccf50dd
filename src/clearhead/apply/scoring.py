"""How probable a translator finds each token of a translation, whoever wrote it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clearhead.apply.completing import beginning
from clearhead.bundle import Bundle
from clearhead.generate.sampling import Chooser


@dataclass(frozen=True)
class TokenScores:
    """Of each token of a text; the end of the text is none of them."""

    log_probabilities: list[float]  # nats
    top: list[list[tuple[int, float]]]  # the most probable tokens in its place and their log-probabilities, best first


@torch.inference_mode()
def score_tokens(bundle: Bundle, source: Sequence[int], tokens: Sequence[int], *, top: int = 0) -> TokenScores:
    """Read a translation with the model; padding is never chosen, as in a search.

    Args:
        source: what the encoder reads.
        tokens: the translation, without begin and end.
        top: how many of the most probable tokens are told for each place.
    """
    if not tokens:
        return TokenScores([], [])
    logits = _logits(bundle, source, tokens)
    own = (logits - logits.logsumexp(dim=1, keepdim=True))[range(len(tokens)), list(tokens)]  # (tokens,)
    return TokenScores(own.tolist(), [Chooser.top(each, top) for each in logits] if top else [])


def _logits(bundle: Bundle, source: Sequence[int], tokens: Sequence[int]) -> Tensor:
    """Before each token, (tokens, vocab), at least float32."""
    model, begin = bundle.model, beginning(bundle)
    device = model.output.device
    memory = model.encode(torch.tensor([list(source)], device=device))
    hidden = model.decode(torch.tensor([[*begin, *tokens[:-1]]], device=device), memory)
    logits = model.logits(hidden[0, len(begin) - 1 :])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if model.config.pad != bundle.target.eos:
        logits[:, model.config.pad] = -torch.inf
    return logits
