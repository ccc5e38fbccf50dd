"""What `clearhead verify` proves about a model on the machine it runs on."""

from clearhead.train.checks.arrangement import BatchOfOne, LeftPadding, Packed, PaddingInert
from clearhead.train.checks.base import CHECKS, Check, Finding, Probe, Skipped, verify
from clearhead.train.checks.files import Exported, Saved
from clearhead.train.checks.learning import Accumulated, Recomputed
from clearhead.train.checks.numbers import Bfloat16
from clearhead.train.checks.time import Cached, FutureHidden

__all__ = [
    "CHECKS",
    "Accumulated",
    "BatchOfOne",
    "Bfloat16",
    "Cached",
    "Check",
    "Exported",
    "Finding",
    "FutureHidden",
    "LeftPadding",
    "Packed",
    "PaddingInert",
    "Probe",
    "Recomputed",
    "Saved",
    "Skipped",
    "verify",
]
