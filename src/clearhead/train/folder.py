"""The folder of a run: one run, one recipe, one process at a time."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from clearhead.core.errors import CheckpointError, UsageError
from clearhead.core.files import make_folder, storage, write_atomic
from clearhead.core.progress import say
from clearhead.core.recipe import read_recipe, write_recipe
from clearhead.train.recipe import Recipe

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

CONTENT = (  # what a run leaves besides its recipe
    "source_tokenizer.json",
    "target_tokenizer.json",
    "tokenizer.json",
    "data",
    "taught",
    "checkpoints",
    "model.safetensors",
    "config.json",
)
WHERE = ("device", "parallel", "processes", "recompute", "threads")  # keys of `train` by which no result changes


@contextlib.contextmanager
def open_folder(recipe: Recipe, out: Path, *, resume: bool) -> Iterator[None]:
    """Start a run in a folder, or go on with the run of this very recipe; no second process may enter meanwhile.

    Args:
        recipe: what the run is to do; `recipe.yaml` records it with every default. A resumed run may be done on
            another device, by more or fewer processes.
        out: may hold a recipe whose run failed before it left anything; a file of another origin is never overwritten.
        resume: whether to go on where an earlier part of the run stopped.
    """
    path = out / "recipe.yaml"
    content = [name for name in CONTENT if (out / name).exists()]
    if not path.exists():
        _require_free(out, content)
        if resume:
            say(f"no run in {out} yet: starting one")
        make_folder(out)
        write_atomic(path, write_recipe(recipe))
    with _alone(path):
        if content and not resume:
            remedy = "add --resume to continue it, or choose another --out"
            raise UsageError("this folder already holds a run", where=out, remedy=remedy)
        if content:
            _require_same(path, recipe)
        if path.read_text(encoding="utf-8") != (now := write_recipe(recipe)):
            path.write_text(now, encoding="utf-8")  # in its place, so that the lock holds
        yield


def _require_free(out: Path, content: list[str]) -> None:
    if content:
        raise UsageError(
            "this folder is not a run, and a run would overwrite what it holds",
            where=out,
            found=", ".join(content),
            remedy="choose another --out",
        )


def _require_same(path: Path, recipe: Recipe) -> None:
    """Read the old recipe as of today, so that a key that did not exist then has its default."""
    before, now = (_results(each) for each in (read_recipe(path, [], Recipe), recipe))
    for key, old, new in _differences(before, now):
        raise CheckpointError(
            "the recipe is not the one this run began with",
            where=f"{path}, {key}",
            found=repr(new),
            expected=repr(old),
            remedy="resume with the same recipe and overrides, or start anew in another --out",
        )


def _results(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe the results depend on."""
    values = recipe.model_dump(mode="json")
    return {**values, "train": {name: each for name, each in values["train"].items() if name not in WHERE}}


def _differences(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in before | now:
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}".lstrip("."))
    elif before != now:
        yield key, before, now


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when the process ends, however it ends."""
    if fcntl is None:
        yield
        return
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            remedy = "wait for it to end, or choose another --out"
            raise UsageError("another process is at work in this folder", where=path.parent, remedy=remedy) from None
        except OSError:  # a file system without locks
            pass
        yield


def _opened(path: Path) -> BinaryIO:
    with storage(path):
        return open(path, "r+b")
