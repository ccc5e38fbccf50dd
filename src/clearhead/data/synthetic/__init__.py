"""Synthetic tasks: endless examples from known laws, so that the best possible score is known too."""

from clearhead.data.synthetic.base import IGNORED, TASKS, Samples, Task
from clearhead.data.synthetic.copying import Copy, Delay, Offset, Retrieve, Reverse
from clearhead.data.synthetic.markov import Markov
from clearhead.data.synthetic.recall import Recall

__all__ = [
    "IGNORED",
    "TASKS",
    "Copy",
    "Delay",
    "Markov",
    "Offset",
    "Recall",
    "Retrieve",
    "Reverse",
    "Samples",
    "Task",
]
