"""All questions of the lab: every file in the folders of `questions` is one, found by looking."""

import importlib
import pkgutil
from functools import lru_cache
from typing import cast

from clearhead.core.errors import ConfigError
from clearhead.core.registry import nearest
from clearhead.lab import questions
from clearhead.lab.question import QUESTIONS, TOPICS, Question


@lru_cache(maxsize=1)
def ids() -> tuple[str, ...]:
    """The ids of all questions, topic by topic."""
    for shelf in pkgutil.walk_packages(questions.__path__, f"{questions.__name__}."):
        importlib.import_module(shelf.name)
    return tuple(sorted(QUESTIONS.names(), key=lambda each: (TOPICS.index(_class(each).topic), each)))


def question(id: str) -> Question:
    """The question of that id; a ConfigError with the nearest id if there is none."""
    ids()
    return QUESTIONS.get(id)()


def module_of(id: str) -> str:
    """The module that a question is written in."""
    ids()
    return _class(id).__module__


def chosen(name: str) -> list[str]:
    """The ids that an id, a topic or `all` stands for."""
    if name == "all":
        return list(ids())
    if name in TOPICS:
        return [each for each in ids() if _class(each).topic == name]
    if name not in ids():
        remedy = nearest(name, [*ids(), *TOPICS]) or "see clearhead lab list"
        raise ConfigError(f"no question or topic {name!r}", remedy=remedy)
    return [name]


def _class(id: str) -> type[Question]:
    return cast(type[Question], QUESTIONS.get(id))
