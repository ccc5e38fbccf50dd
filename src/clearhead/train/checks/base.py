"""The doorway of the check family: a model and some texts in, the largest difference between two ways out.

Every check computes one thing in two ways that must agree. Differences are relative to the largest number of the second
way, so that they mean the same for every model. What a kind of model cannot be asked is skipped with its reason.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from clearhead.bundle import Bundle
from clearhead.core.errors import one_line
from clearhead.core.registry import Choice, Registry
from clearhead.model import Transformer
from clearhead.train.checks.texts import Batch, Rows


@dataclass(frozen=True, eq=False)
class Probe:
    """A bundle with its model in eval mode, and the random texts it is tried with."""

    bundle: Bundle
    sources: Rows  # what an encoder reads
    targets: Rows  # what a decoder reads

    @property
    def model(self) -> Transformer:
        """The model of the bundle."""
        return self.bundle.model

    @property
    def texts(self) -> Rows:
        """What the first stack reads."""
        return self.sources if self.model.config.encoder_layers else self.targets

    @property
    def smallest_vocab(self) -> int:
        """The tokens that both sides know."""
        config = self.model.config
        return min(each for each in (config.source_vocab, config.target_vocab) if each)


class Check:
    """One law that a right model obeys."""

    title: str  # for people
    tolerance = 1e-4  # of float32 on any machine; rounding makes some 1e-6

    def excuse(self, model: Transformer) -> str | None:
        """Why this check does not apply to a model; None if it does."""
        return None

    def difference(self, probe: Probe) -> float:
        """The largest relative difference between the two ways."""
        raise NotImplementedError


CHECKS: Registry[Check] = Registry("check")


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    title: str
    passed: bool
    largest_difference: float | None  # None = not a number, or no result
    tolerance: float
    error: str | None = None  # what stopped the check


@dataclass(frozen=True)
class Skipped:
    """A check that does not apply, and why."""

    name: str
    title: str
    reason: str


def verify(bundle: Bundle, *, length: int = 24, seed: int = 0) -> Iterator[Finding | Skipped]:
    """Run every check on a model, one after another.

    Args:
        bundle: its model may be on any device; its weights and its mode are left as they are.
        length: tokens of the longest text; less where the model's positions end earlier.
        seed: of the random texts.
    """
    probe = _probe(bundle, length, seed)
    for name in CHECKS.names():
        check = CHECKS.build(Choice(kind=name))
        reason = _unreadable(bundle.model) or check.excuse(bundle.model)
        yield Skipped(name, check.title, reason) if reason else _found(name, check, probe)


def _unreadable(model: Transformer) -> str | None:
    """Texts can be made up; what else a model may read cannot."""
    reads = model.encoder.embedding.reads if model.config.encoder_layers else "tokens"
    return None if reads == "tokens" else f"this model reads {reads}"


def _probe(bundle: Bundle, length: int, seed: int) -> Probe:
    """Three texts for each side: as long as asked, two thirds and a quarter of that, at least two tokens each."""
    config, generator = bundle.model.config, torch.Generator().manual_seed(seed)
    limit = bundle.model.longest_target or config.length
    longest = max(2, min(length, limit, config.length))
    lengths = [longest, max(2, 2 * longest // 3), max(2, longest // 4)]
    device = next(bundle.model.parameters()).device
    sides = (config.source_vocab or config.target_vocab, config.target_vocab or config.source_vocab)
    return Probe(bundle, *(Rows.random(lengths, each, config.pad, generator).to(device) for each in sides))


def _found(name: str, check: Check, probe: Probe) -> Finding:
    """A check that cannot even be computed is a check that fails."""
    device = probe.texts.rows[0].device
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            found, error = check.difference(probe), None
    except Exception as problem:
        found, error = math.nan, one_line(f"{type(problem).__name__}: {problem}")
    shown = found if math.isfinite(found) else None
    return Finding(name, check.title, found <= check.tolerance, shown, check.tolerance, error)


def last_stack(model: Transformer, sources: Batch, targets: Batch) -> tuple[Tensor, Batch]:
    """Hidden states of the last stack, (batch, length, d_model), and what it has read."""
    if not model.config.encoder_layers:
        return model.decode(targets.ids, valid=targets.valid), targets
    memory = model.encode(sources.ids, sources.valid)
    if not model.config.decoder_layers:
        return memory.hidden, sources
    return model.decode(targets.ids, memory, valid=targets.valid), targets


def hidden_states(model: Transformer, sources: Batch, targets: Batch) -> Tensor:
    """Hidden states of the last stack for every token that is no padding, (tokens, d_model)."""
    hidden, read = last_stack(model, sources, targets)
    return hidden[read.valid]


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected number; nan if there is a nan."""
    if found.shape != expected.shape:
        return math.inf
    difference = (found.double() - expected.double()).abs().max()
    return float(difference / expected.double().abs().max().clamp(min=torch.finfo(torch.float32).tiny))
