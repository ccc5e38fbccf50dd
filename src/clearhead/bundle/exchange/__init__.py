"""Models in and out: folders of the transformers library and bundles, each architecture one file of data."""

from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture
from clearhead.bundle.exchange.exporting import Exported, export_model, fitting
from clearhead.bundle.exchange.importing import Imported, import_model
from clearhead.bundle.exchange.peer import witness

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Exported",
    "Imported",
    "export_model",
    "fitting",
    "import_model",
    "witness",
]
