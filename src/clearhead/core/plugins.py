"""A user's own parts: a Python file that registers them, run only because the user named it.

A plugin is ordinary Python and may do anything that its user may do. So nothing but the user's word runs one: the key
`plugins` of a recipe, or `clearhead --plugin FILE`. A model folder only tells which plugins it needs; it holds no code,
and opening it runs none.
"""

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from clearhead.core.errors import ConfigError


def load_plugin(path: Path) -> None:
    """Run a Python file once, so that the parts it registers have their names; a second call does nothing.

    Raises:
        ConfigError: there is no such file, or it cannot be run; names the file and what went wrong.
    """
    path = path.expanduser().resolve()
    name = _module_name(path)
    if name in sys.modules:
        return
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError("no such plugin", found=path, expected="a Python file that registers parts")
    module = ModuleType(name, f"The plugin {path}.")
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and type hints look their module up by name
    try:
        code = path.read_bytes()
        module.__dict__["SHA256"] = hashlib.sha256(code).hexdigest()
        exec(compile(code, path, "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        found = f"{type(error).__name__}: {error}"
        raise ConfigError("a plugin cannot be loaded", where=path, found=f"{path.name}: {found}") from error


def fingerprints(paths: Iterable[str]) -> list[dict[str, str]]:
    """File name and SHA-256 of each loaded plugin: what a model records, so that the right one is found again."""
    modules = [(Path(each).name, sys.modules[_module_name(Path(each).expanduser().resolve())]) for each in paths]
    return [{"file": name, "sha256": module.__dict__["SHA256"]} for name, module in modules]


def _module_name(path: Path) -> str:
    return f"clearhead_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
