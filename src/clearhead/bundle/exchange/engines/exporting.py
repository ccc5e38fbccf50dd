"""A bundle -> a folder for another engine: refused before anything is written, checked before it is in its place."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clearhead.bundle.bundle import Bundle
from clearhead.bundle.exchange.engines.base import FORMATS, Format, Verdict, library
from clearhead.core.errors import BundleError, StorageError, UsageError
from clearhead.core.files import folder_atomic
from clearhead.core.registry import nearest

LIMITS = {"float32": 1e-4, "float16": 2e-2}  # largest difference that rounding explains, relative to the largest value


def export_to(
    bundle: Bundle,
    folder: Path,
    to: str,
    *,
    quantization: str | None = None,
    tokenizer: bool = True,
    check: bool = True,
) -> dict[str, Any]:
    """Write a bundle for another engine; whole and checked, or not at all.

    Args:
        bundle: in eval mode, on the CPU.
        folder: a new or an empty one.
        to: name of a format.
        quantization: precision of the weights there; None = the format's first.
        tokenizer: False leaves it out, where the engine has no word for it.
        check: run the engine, where it is installed, and refuse an export that computes something else.

    Returns:
        What was written and what the engine said, ready for JSON; differences are null if nothing was measured.

    Raises:
        UsageError: no such format or precision, or the library that writes it is not installed.
        BundleError: the engine cannot express the model, or says something else.
        StorageError: the folder holds something already, or cannot be written.
    """
    if to not in FORMATS.names():
        expected, remedy = f"one of {', '.join(FORMATS.names())}", nearest(to, FORMATS.names())
        raise UsageError("no such format", found=to, expected=expected, remedy=remedy)
    form = FORMATS.get(to)()
    precision = _precision(form, to, quantization)
    form.require(bundle, tokenizer=tokenizer)
    for each in form.writes_with:
        library(each)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError("there is something in this place already", where=folder, remedy="name a new folder")
    if not all(bool(each.isfinite().all()) for each in bundle.model.parameters()):
        raise BundleError("the weights of this model are not numbers", remedy="look where training diverged")
    with folder_atomic(folder) as new:
        facts: dict[str, Any] = {"format": to, "kind": bundle.model.config.kind, "quantization": precision}
        facts |= form.write(bundle, new, precision, tokenizer=tokenizer)
        facts["bytes"] = sum(each.stat().st_size for each in new.rglob("*") if each.is_file())
        measured = check and find_spec(form.runs_with) is not None
        if not measured:
            return facts | _UNCHECKED
        return facts | _checked(form.run(bundle, new, precision, tokenizer=tokenizer), precision, folder)


_UNCHECKED: dict[str, Any] = {"max_abs_logit_difference": None}


def _precision(form: Format, to: str, quantization: str | None) -> str:
    if quantization is None:
        return form.quantizations[0]
    if quantization not in form.quantizations:
        expected = f"one of {', '.join(form.quantizations)}"
        raise UsageError(f"{to} has no such precision of weights", found=quantization, expected=expected)
    return quantization


def _checked(verdict: Verdict, precision: str, folder: Path) -> dict[str, Any]:
    """Rounding to int8 has no bound that holds for every model: it is told, not judged."""
    limit = max(LIMITS.get(precision, float("inf")), verdict.coarse) * max(1.0, verdict.scale)
    if not verdict.difference <= limit:
        what = f"the engine computes something else: {verdict.name.replace('_', ' ')}"
        remedy = "please report it; --no-check writes it all the same"
        raise BundleError(what, where=folder, found=verdict.difference, expected=f"at most {limit:.1e}", remedy=remedy)
    return {verdict.name: verdict.difference, **verdict.facts}
