"""Tasks: what a training works on and how its model is judged."""

from clearhead.train.tasks.base import TASKS, Scores, Task, kind_of, task_of
from clearhead.train.tasks.labels import LabelledTexts, LabelsTask
from clearhead.train.tasks.text import Texts, TextTask
from clearhead.train.tasks.translation import TranslationTask

__all__ = [
    "TASKS",
    "LabelledTexts",
    "LabelsTask",
    "Scores",
    "Task",
    "TextTask",
    "Texts",
    "TranslationTask",
    "kind_of",
    "task_of",
]
