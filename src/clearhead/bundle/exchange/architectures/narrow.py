"""A table that may be narrower than the stream: a map between them is there only if the widths differ."""

from collections.abc import Mapping
from typing import Any

from clearhead.bundle.exchange.flat import Flat
from clearhead.bundle.exchange.rules import Custom, Theirs
from clearhead.core.errors import BundleError


def _read(theirs: Theirs) -> Flat:
    model = theirs.get("hidden_size", 768)
    width = theirs.get("embedding_size") or model
    return {"embedding.kind": "table"} if width == model else {"embedding.kind": "factorised", "embedding.width": width}


def _write(ours: Mapping[str, Any]) -> dict[str, Any]:
    kind = ours["embedding.kind"]
    if kind not in ("table", "factorised"):
        raise BundleError("embedding must be table or factorised", found=kind)
    width = ours.get("embedding.width", ours["d_model"])
    if kind == "factorised" and width == ours["d_model"]:
        raise BundleError("embedding.width must differ from d_model", found=width)
    return {"embedding_size": width}


NARROW = Custom(("embedding.kind", "embedding.width"), _read, _write)
