"""Formats that a bundle can be written in, each checked by the engine that reads it."""

from clearhead.bundle.exchange.engines import ctranslate2 as _ctranslate2  # noqa: F401 (they enter FORMATS)
from clearhead.bundle.exchange.engines import gguf as _gguf  # noqa: F401
from clearhead.bundle.exchange.engines import hf as _hf  # noqa: F401
from clearhead.bundle.exchange.engines import onnx as _onnx  # noqa: F401
from clearhead.bundle.exchange.engines.base import FORMATS, Format, Verdict
from clearhead.bundle.exchange.engines.exporting import export_to

__all__ = ["FORMATS", "Format", "Verdict", "export_to"]
