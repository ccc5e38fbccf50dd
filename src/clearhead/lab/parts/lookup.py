"""A lookup that a small decoder learns in a few seconds: four pairs of key and value, then one of the keys again.

It takes two layers: the first tells each value which key stands before it, the second finds the key. The rate decides
whether a model learns it at all: at 1e-2 one in five with one head never does, and most of those with four heads. At
3e-3 all of 16 did, with one head after 125 to 200 updates, with four after 225 to 350.
"""

from collections.abc import Mapping
from typing import Any

from clearhead.data.synthetic import Task
from clearhead.lab.rows import Rows
from clearhead.lab.training import Plan, decoder, task
from clearhead.model import ModelConfig

CHANCE = 0.25  # what a model reaches that gives any of the four values shown
PLAN = Plan(updates=300, batch=64, rate=1e-2)  # where a question tries rates of its own
SURE = Plan(updates=500, batch=64, rate=3e-3, schedule="constant")  # where the lookup is to be learned
LEARNED = 0.95  # accuracy from which on a model knows the lookup
ENOUGH = 0.8  # share of the models that must know it before anything is said of those that do


def lookup() -> Task:
    """The task; its question is the last of 9 tokens."""
    return task("recall", {"pairs": 4, "keys": 8, "values": 8})


def reader(changes: Mapping[str, Any] | None = None) -> ModelConfig:
    """The model that learns it; `changes` are keys of ModelConfig."""
    return decoder(lookup().vocab, {"position": "rope", "heads": 1, **(changes or {})})


def knowing(accuracies: Rows) -> list[int]:
    """The seeds of the models that know the lookup; one row for each model, with its accuracy."""
    return [int(row["seed"] or 0) for row in accuracies if float(row["accuracy"] or 0) > LEARNED]


def enough(accuracies: Rows) -> bool:
    """Whether so many models know the lookup that those which do may be judged."""
    return len(knowing(accuracies)) >= ENOUGH * len(accuracies)
