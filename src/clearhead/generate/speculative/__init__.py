"""Speculative decoding: guess several tokens, judge them in one pass, keep the distribution."""

from clearhead.generate.speculative.base import DRAFTERS, Drafter, Proposal
from clearhead.generate.speculative.draft_model import DraftModel
from clearhead.generate.speculative.lookup import Lookup
from clearhead.generate.speculative.reader import Reader
from clearhead.generate.speculative.speculation import Speculated, SpeculationConfig, SpeculativeText, speculate
from clearhead.generate.speculative.verify import Verified, verify

__all__ = [
    "DRAFTERS",
    "DraftModel",
    "Drafter",
    "Lookup",
    "Proposal",
    "Reader",
    "Speculated",
    "SpeculationConfig",
    "SpeculativeText",
    "Verified",
    "speculate",
    "verify",
]
