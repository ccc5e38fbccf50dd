"""The fingerprint of the code that a measurement rests on, so that a cached result is used only while it is still true.

It covers a question's own file and every module of the package that it imports, directly or not. Comments, docstrings
and what a question says or draws do not count: rewording an answer measures nothing anew.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "clearhead"
WORDS = {
    "judge",
    "answer",
    "draw",
    "title",
    "sources",
    "claims",
    "prediction",
    "criterion",
    "parts",
    "references",
    "timed",
}
AFTERWARDS = (f"{PACKAGE}.lab.statistics", f"{PACKAGE}.lab.pictures", f"{PACKAGE}.lab.question")  # see only rows


def digest(module: str) -> str:
    """SHA-256, in hexadecimal, of the code behind a question's module."""
    parts = [_content(each, words=each == module) for each in sorted(_closure(module))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _closure(module: str) -> set[str]:
    """The modules of the package that a module needs, itself included."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and name not in AFTERWARDS:
            found.add(name)
            waiting += _imports(name)
    return found


@cache
def _imports(module: str) -> tuple[str, ...]:
    names: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{each.name}" for each in node.names)
    return tuple(sorted(each for each in names if each.startswith(f"{PACKAGE}.") and _path(each) is not None))


@cache
def _content(module: str, *, words: bool) -> str:
    """The code of a module as a text without comments and docstrings; with `words`, without a question's texts too."""
    tree = _tree(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [
                each for each in node.body if not _silent(each, words=words and isinstance(node, ast.ClassDef))
            ]
    return f"{module}\n{ast.dump(tree)}"


def _silent(node: ast.stmt, *, words: bool) -> bool:
    """True for what computes nothing: a docstring; in a question also what it says."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return words and bool(WORDS & set(_names(node)))


def _names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef):
        yield node.name
    if isinstance(node, ast.Assign):
        yield from (each.id for each in node.targets if isinstance(each, ast.Name))


def _tree(module: str) -> ast.Module:
    path = _path(module)
    assert path is not None, module
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _path(module: str) -> Path | None:
    """The file of a module, or None for what is no module, such as a class that is imported from one."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None
