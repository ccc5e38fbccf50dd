"""Which guesses are kept, so that the text comes from the model's own distribution.

A guess x drawn from q is kept with probability min(1, p(x) / q(x)); in place of the first one that is not, a token is
drawn from max(0, p - q). Source: Leviathan et al., 2023, arXiv:2211.17192, section 2.3; Chen et al., 2023,
arXiv:2302.01318.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from clearhead.generate.sampling import Chooser, Chosen
from clearhead.generate.speculative.base import Proposal


class Verified(NamedTuple):
    """What became of some guesses."""

    chosen: list[Chosen]  # the tokens that are written
    accepted: int  # how many of them were guesses


def verify(chooser: Chooser, proposals: Sequence[Proposal], logits: Tensor, eos: int | None) -> Verified:
    """Choose as many tokens as the guesses allow, and one more where all are kept and the text has not ended.

    Args:
        chooser: of the request; it is moved on over the tokens that are chosen.
        proposals: the guesses.
        logits: (guesses + 1, vocab), of the model, before each guess and after the last.
    """
    chosen: list[Chosen] = []
    for proposal, row in zip(proposals, logits, strict=False):
        token, kept = _judged(chooser, proposal, row)
        chooser.advance(token)
        chosen.append(Chosen(token, float(row[token] - row.logsumexp(dim=0))))
        if not kept:
            return Verified(chosen, len(chosen) - 1)
    accepted = len(chosen)
    if not chosen or chosen[-1].token != eos:
        chosen.append(chooser.choose(logits[len(proposals)]))
    return Verified(chosen, accepted)


def _judged(chooser: Chooser, proposal: Proposal, logits: Tensor) -> tuple[int, bool]:
    """The token to write, and whether it is the guess."""
    wanted, token = chooser.probabilities(logits), proposal.token
    if proposal.probabilities is None:
        guessed, rest = 1.0, wanted.clone()
        rest[token] = 0.0
    else:
        guessed = float(proposal.probabilities[token])
        rest = (wanted - proposal.probabilities).clamp(min=0)
    if chooser.happens(float(wanted[token]) / guessed):
        return token, True
    return chooser.draw(rest if float(rest.sum()) > 0 else wanted), False
