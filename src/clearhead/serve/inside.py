"""What happens inside a model while it reads a text, for the page: /api/inside/models, /look and /alignment."""

import base64
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from clearhead.apply.inside import Inside
from clearhead.serve.config import ServeConfig
from clearhead.serve.errors import Json
from clearhead.serve.hall import Hall, Served

TEXT = 100_000  # characters; the model's own limit, in tokens, is what counts
Text = Field(max_length=TEXT)
Numbers = npt.NDArray[Any]


class Asked(BaseModel):
    """A model by name; none = the first one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None


class LookRequest(Asked):
    """A text to look at, and for a translator what its decoder reads; none = its own translation."""

    text: str = Text
    target: str | None = Field(default=None, max_length=TEXT)


class AlignmentRequest(Asked):
    """A source and one of its translations."""

    source: str = Text
    output: str = Text


def routes(hall: Hall, config: ServeConfig) -> APIRouter:
    """The routes; a model is prepared for looking when somebody first looks into it."""
    router = APIRouter(prefix="/api/inside", tags=["inside"])
    opened: dict[str, Inside] = {}

    def inside(served: Served) -> Inside:
        if served.name not in opened:
            opened[served.name] = Inside(served.model)
        return opened[served.name]

    @router.get("/models")
    async def models() -> Json:
        """The models that are served, and what they are."""
        return Json({"models": [about(each) for each in hall.models.values()]})

    @router.post("/look")
    async def look(asked: LookRequest) -> Json:
        """Tokens, attention, heads, logit lens, positions and cache of one text."""
        served = hall.find(asked.model)
        return await hall.compute(lambda: Json(looked(inside(served), asked)))

    @router.post("/alignment")
    async def alignment(asked: AlignmentRequest) -> Json:
        """Where each token of a translation looked in the source."""
        served = hall.find(asked.model)
        return await hall.compute(lambda: Json(aligned(inside(served), asked)))

    return router


def about(served: Served) -> dict[str, Any]:
    """A model in a few words and numbers."""
    bundle, config = served.model.bundle, served.model.bundle.model.config
    return {
        "name": served.name,
        "kind": served.kind,
        "parameters": sum(each.numel() for each in bundle.model.parameters()),
        "layers": {"encoder": config.encoder_layers, "decoder": config.decoder_layers},
        "heads": config.heads,
        "d_model": config.d_model,
        "length": config.length,
        "vocabulary": config.target_vocab or config.source_vocab,
        "position": config.position.kind,
        "attention": config.attention.kind,
        "chat_template": bool(bundle.history.get("chat_template")),
        "reads_text": bool(bundle.tokenizers),
        "mask": _mask(served),
    }


def looked(inside: Inside, asked: LookRequest) -> dict[str, Any]:
    """A look as JSON: maps are base64 of bytes, see `packed`."""
    found = inside.look(asked.text, asked.target)
    lens = found.lens
    return {
        "encoder": [asdict(each) for each in found.encoder],
        "decoder": [asdict(each) for each in found.decoder],
        "attention": [
            {
                "site": each.site,
                "layer": each.layer,
                "shape": each.weights.shape,
                "maps": [packed(head) for head in each.weights],
                "heads": [asdict(head) for head in each.heads],
            }
            for each in found.attention
        ],
        "lens": lens
        and {
            "layers": lens.layers,
            "ids": lens.ids.tolist(),
            "probabilities": _plain(lens.probabilities),
            "final": _plain(lens.final),
            "words": {str(index): asdict(token) for index, token in lens.words.items()},
        },
        "pictures": [
            {"kind": each.kind, "side": each.side, "shape": each.values.shape, **signed(each.values)}
            for each in found.pictures
        ],
        "keeping": found.keeping and asdict(found.keeping),
        "limit": inside.limit,
    }


def aligned(inside: Inside, asked: AlignmentRequest) -> dict[str, Any]:
    """An alignment as JSON."""
    found = inside.alignment(asked.source, asked.output)
    return {
        "source": [asdict(each) for each in found.source],
        "output": [asdict(each) for each in found.output],
        "shape": found.layers[0].shape,
        "layers": [packed(each) for each in found.layers],
        "best": found.best,
    }


def packed(weights: Numbers) -> str:
    """Weights from 0 to 1 as one byte each, row by row: 255 times the weight; base64."""
    return _base64(np.rint(255 * weights.clip(0, 1)).astype(np.uint8))


def signed(values: Numbers) -> dict[str, Any]:
    """Values of any size as one byte each: 128 is zero, and a step is `scale` / 127."""
    scale = float(np.abs(values).max()) or 1.0
    return {"scale": scale, "maps": [_base64((128 + np.rint(127 * each / scale)).astype(np.uint8)) for each in values]}


def _base64(numbers: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def _plain(numbers: Numbers) -> Any:
    """As lists of short decimal numbers."""
    return np.asarray(numbers, dtype=np.float64).round(5).tolist()


def _mask(served: Served) -> str | None:
    """How a hidden word is written for a model that guesses them."""
    tokenizer = served.model.bundle.target
    if served.kind != "encoder-only" or tokenizer.mask is None:
        return None
    return tokenizer.tokens([tokenizer.mask])[0]
