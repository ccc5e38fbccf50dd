"""Models that only read: the same function, its weights kept as the processor multiplies by them fastest."""

from clearhead.model.packing import int8 as _int8  # noqa: F401 (they enter PRODUCTS)
from clearhead.model.packing import plain as _plain  # noqa: F401
from clearhead.model.packing.base import PRODUCTS, Product
from clearhead.model.packing.packed import packed

__all__ = ["PRODUCTS", "Product", "packed"]
