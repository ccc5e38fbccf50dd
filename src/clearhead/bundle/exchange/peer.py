"""The transformers library itself as the witness: the same batch through its model and through ours.

It is optional, and importing it takes seconds; so it is imported here alone, at the moment it is asked.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from clearhead.bundle.exchange.architecture import Architecture
from clearhead.core.errors import BundleError
from clearhead.model import Transformer

TOLERANCE = 1e-4  # largest absolute difference of two logits in float32 that rounding explains


def witness(
    folder: Path, name: str, architecture: Architecture, model: Transformer, *, check: bool = True
) -> dict[str, float | None]:
    """Run our model, and theirs too where transformers is installed and `check` is wanted.

    Args:
        folder: of their model.
        name, architecture: what it is.
        model: ours.

    Returns:
        The largest difference of two logits in float32; null if it was not measured.

    Raises:
        BundleError: our logits are not numbers, their library cannot open the folder, or the difference is more than
            rounding explains.
    """
    batch = architecture.batch(model.config)
    with torch.inference_mode():
        ours, told = architecture.answer(model, batch)
        if not bool(ours[told].isfinite().all()):
            raise BundleError("the logits of this model are not numbers", where=folder)
        difference = None
        if check and find_spec("transformers") is not None:
            theirs = getattr(_opened(folder, name)(**batch.arguments(architecture.reads)), architecture.answers)
            difference = float((theirs - ours)[told].abs().max())
    if difference is not None and not difference <= TOLERANCE:
        expected, remedy = f"at most {TOLERANCE:g}", "please report it; --no-check goes on all the same"
        what = "transformers has other logits"
        raise BundleError(what, where=folder, found=difference, expected=expected, remedy=remedy)
    return {"max_abs_logit_difference": difference}


def converted_tokenizer(folder: Path) -> Any:
    """The fast tokenizer that transformers makes of a folder; None where it is not installed or cannot."""
    if find_spec("transformers") is None:
        return None
    try:
        opened = _library().AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception:  # whatever the other library raises
        return None
    return getattr(opened, "backend_tokenizer", None)


def _opened(folder: Path, name: str) -> Any:
    kind = getattr(_library(), name)
    try:
        return kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    except Exception as problem:  # whatever the other library raises
        raise BundleError("transformers cannot open this folder", where=folder, found=str(problem)) from None


def _library() -> Any:
    """transformers, without its progress bars and its advice."""
    library = import_module("transformers")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library
