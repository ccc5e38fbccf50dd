"""Clearhead: a complete Transformer system that can be read, and a lab that asks it questions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clearhead.apply import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import torch only when it is needed, so that `clearhead --help` answers at once (PEP 562)."""
    if name in ("Model", "load"):
        return getattr(import_module("clearhead.apply"), name)
    raise AttributeError(f"module 'clearhead' has no attribute {name!r}")
