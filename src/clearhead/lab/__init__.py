"""The lab: standard questions about Transformers, each put to the package's own parts and answered by measurement."""

from clearhead.lab.catalog import chosen, ids, question
from clearhead.lab.runner import Result, run
from clearhead.lab.scale import Scale
from clearhead.lab.store import Store

__all__ = ["Result", "Scale", "Store", "chosen", "ids", "question", "run"]
