"""A lookup that a small decoder learns in two seconds: four pairs of key and value, then one of the keys again.

The standard run does not learn recall in its time; one head, rotary positions, 64 examples an update and a higher
rate do, with every seed that was tried; four heads with about half of them. It takes two layers: the first tells each
value which key stands before it, the second finds the key. Heads wider than 64 want a rate of 3e-3.
"""

from collections.abc import Mapping
from typing import Any

from clearhead.data.synthetic import Task
from clearhead.lab.training import Plan, decoder, task
from clearhead.model import ModelConfig

CHANCE = 0.25  # what a model reaches that gives any of the four values shown
PLAN = Plan(updates=300, batch=64, rate=1e-2)


def lookup() -> Task:
    """The task; its question is the last of 9 tokens."""
    return task("recall", {"pairs": 4, "keys": 8, "values": 8})


def reader(changes: Mapping[str, Any] | None = None) -> ModelConfig:
    """The model that learns it; `changes` are keys of ModelConfig."""
    return decoder(lookup().vocab, {"position": "rope", "heads": 1, **(changes or {})})
