"""What an architecture of the transformers library is, in data: rules for its config, entries for its tensors.

A new architecture is one new file in `architectures/` with one class and one registration. Its class name there is its
name here, as `architectures` in a config.json has it. Nothing in the class runs but look-ups.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from clearhead.bundle.exchange.batch import Batch, hidden_states, logits, words
from clearhead.bundle.exchange.rules import Rule
from clearhead.bundle.exchange.tensors import Entry
from clearhead.core.errors import BundleError
from clearhead.core.registry import Registry, nearest
from clearhead.model import ModelConfig, Transformer


class Architecture:
    """One class of models of the transformers library, and how our Transformer says the same."""

    model_type: ClassVar[str]  # as config.json has it
    prefix: ClassVar[str] = ""  # of the tensors of the body; a file that was saved without its head lacks it
    rules: ClassVar[tuple[Rule, ...]] = ()
    tensors: ClassVar[tuple[Entry, ...]] = ()
    ignored: ClassVar[tuple[str, ...]] = ()  # patterns of stored names that this class of models never reads
    renamed: ClassVar[tuple[tuple[str, str], ...]] = ()  # ends of names in files of old versions -> today's
    start: ClassVar[str | None] = None  # key of the id that begins a target, if it is not the bos
    opens: ClassVar[str | None] = None  # role of the token before a source, where no file of the tokenizer says it
    reads: ClassVar[str] = "input_ids"  # the first argument of their model
    answers: ClassVar[str] = "logits"  # the attribute of its result that is compared

    def entries(self, config: ModelConfig) -> tuple[Entry, ...]:
        """The entries for models of this config."""
        return self.tensors

    def batch(self, config: ModelConfig) -> Batch:
        """Something to read."""
        return words(config)

    def answer(self, model: Transformer, batch: Batch) -> tuple[Tensor, Tensor]:
        """What our model says to it, (batch, ..., scores), and which of that is not padding, (batch, ...) bool."""
        return logits(model, batch)

    def constants(self, config: ModelConfig) -> dict[str, Tensor]:
        """Tensors that a file may lack, with the values that it then means."""
        return {}


class Headless(Architecture):
    """A body without a head: hidden states are compared, and no model of ours becomes one unless it was one."""

    answers = "last_hidden_state"

    def answer(self, model: Transformer, batch: Batch) -> tuple[Tensor, Tensor]:
        hidden, valid = hidden_states(model, batch)
        return hidden, torch.ones(hidden.shape[:-1], dtype=torch.bool) if valid is None else valid


ARCHITECTURES: Registry[Architecture] = Registry("architecture")


def architecture_of(theirs: Mapping[str, Any], where: object) -> tuple[str, Architecture]:
    """The architecture that a config.json names, or else the first of its model_type; a BundleError if unknown."""
    named = theirs.get("architectures") or []
    name = str(named[0]) if isinstance(named, list) and named else _first(theirs.get("model_type"))
    if name not in ARCHITECTURES.names():
        found = name or f"model_type {theirs.get('model_type')!r} and no architectures"
        known = ", ".join(ARCHITECTURES.names())
        remedy = nearest(name or "", ARCHITECTURES.names())
        raise BundleError(
            "this architecture is not known", where=where, found=found, expected=f"one of {known}", remedy=remedy
        )
    return name, ARCHITECTURES.get(name)()


def _first(model_type: object) -> str | None:
    return next((name for name in ARCHITECTURES.names() if ARCHITECTURES.get(name)().model_type == model_type), None)
