"""Small decoders that learn texts of one length and are then read on longer ones: what questions about length share.

Two tasks: a Markov chain of order 2, in which only the last tokens count, and the token three places back. Losses are
compared as differences in nats: where a task is solved the loss is nearly 0, and a ratio would say nothing.
"""

from collections.abc import Mapping
from typing import Any

from clearhead.data.synthetic import Task
from clearhead.lab.training import Plan, Score, decoder, score, task, trained
from clearhead.model import Transformer

SEEN = 16  # tokens of the texts that are learned
TEXTS: Mapping[str, Mapping[str, Any]] = {"markov": {"order": 2, "symbols": 6}, "delay": {"delay": 3, "symbols": 8}}
TOKENS = 8192  # of a test
TABLE = 256  # rows of a learned table, of which training sees the first 16


def text(kind: str, length: int = SEEN) -> Task:
    """The task by its name, in texts of so many tokens."""
    return task(kind, {**TEXTS[kind], "length": length})


def learner(kind: str, changes: Mapping[str, Any], updates: int, seed: int) -> Transformer:
    """A decoder after its training on texts of 16 tokens, in eval mode; `changes` are keys of ModelConfig."""
    short = text(kind)
    return trained(decoder(short.vocab, {"length": TABLE, **changes}), short, Plan(updates=updates, batch=16), seed)


def read(model: Transformer, kind: str, length: int, seed: int) -> Score:
    """How well a model does on fresh texts of so many tokens, all labels counted."""
    return score(model, text(kind, length), seed, TOKENS // length)
