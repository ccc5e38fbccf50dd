"""A model must be the same after a journey through files."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from clearhead.bundle import Bundle
from clearhead.bundle.exchange import export_model, fitting, import_model
from clearhead.core.errors import BundleError
from clearhead.model import Transformer
from clearhead.train.checks.base import CHECKS, Check, Probe, apart, last_stack


@CHECKS.register("saved")
class Saved(Check):
    """The model written to disk and read again, against the model at hand."""

    title = "saved and loaded = as it was"
    tolerance = 0.0  # every bit

    def difference(self, probe: Probe) -> float:
        return _after(probe, lambda folder: _saved(probe.bundle, folder))


@CHECKS.register("exported")
class Exported(Check):
    """The model in the layout of the transformers library and back, against the model at hand."""

    title = "exported and imported = as it was"
    tolerance = 1e-6  # a layout may cut and join matrices, and that is all

    def excuse(self, model: Transformer) -> str | None:
        try:
            fitting(model.config)
        except BundleError as error:
            return error.what
        return None

    def difference(self, probe: Probe) -> float:
        return _after(probe, lambda folder: _exported(probe.bundle, folder))


def _saved(bundle: Bundle, folder: Path) -> Transformer:
    bundle.save(folder)
    return Bundle.load(folder).model


def _exported(bundle: Bundle, folder: Path) -> Transformer:
    export_model(bundle, folder)
    return import_model(folder).bundle.model.eval()


@torch.no_grad()
def _after(probe: Probe, journey: Callable[[Path], Transformer]) -> float:
    """How far the logits are from what they were."""
    with tempfile.TemporaryDirectory() as folder:
        again = journey(Path(folder) / "model").to(probe.texts.rows[0].device)
    return apart(_logits(again, probe), _logits(probe.model, probe))


def _logits(model: Transformer, probe: Probe) -> Tensor:
    hidden, read = last_stack(model, probe.sources.right(), probe.targets.right())
    return model.logits(hidden, read.valid)
