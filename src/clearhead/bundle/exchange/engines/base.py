"""The doorway of the family of formats: what a bundle can be written as, and who says that it came out right."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from clearhead.bundle.bundle import Bundle
from clearhead.core.errors import BundleError, UsageError
from clearhead.core.registry import Registry

INSTALL = "pip install 'clearhead[export]'"


@dataclass(frozen=True)
class Verdict:
    """What the real engine said of the same inputs.

    Args:
        name: of what was compared.
        difference: the largest absolute one.
        scale: the largest absolute value of ours, which rounding is relative to.
        facts: what else was seen, by name.
        coarse: relative error of a step that the engine itself computes in less precision.
    """

    name: str
    difference: float
    scale: float
    facts: dict[str, Any]
    coarse: float = 0.0


class Format:
    """One way to write a bundle as a folder. No wiring."""

    title: ClassVar[str]  # whom it is for
    quantizations: ClassVar[tuple[str, ...]] = ("float32",)  # precisions of weights; the first is the default
    writes_with: ClassVar[tuple[str, ...]] = ()  # modules that writing needs
    runs_with: ClassVar[str]  # the module of the engine that checks

    def require(self, bundle: Bundle, *, tokenizer: bool) -> None:
        """Refuse what cannot be said there with a BundleError: reason and remedy."""

    def write(self, bundle: Bundle, folder: Path, quantization: str, *, tokenizer: bool) -> dict[str, Any]:
        """Write the files into an empty folder; returns what is worth telling."""
        raise NotImplementedError

    def run(self, bundle: Bundle, folder: Path, quantization: str, *, tokenizer: bool) -> Verdict:
        """Let the engine open the folder and compute the same as our model."""
        raise NotImplementedError


FORMATS: Registry[Format] = Registry("format")


def library(name: str) -> ModuleType:
    """An engine's own module, imported only now; a UsageError that says how to install it."""
    if find_spec(name) is None:
        raise UsageError(f"{name} is not installed", remedy=INSTALL)
    return import_module(name)


def refuse(title: str, reasons: Sequence[str], remedy: str) -> None:
    """Raise a BundleError if there are reasons why an engine cannot say a model."""
    if reasons:
        shown = "; ".join(reasons[:3]) + ("; ..." if len(reasons) > 3 else "")
        raise BundleError(f"{title} cannot compute this model: {shown}", remedy=remedy)
