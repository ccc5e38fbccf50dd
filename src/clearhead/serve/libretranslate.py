"""POST /translate and GET /languages, as LibreTranslate's clients speak them."""

from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from anyio import fail_after
from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from clearhead.apply.sentences import Sentences
from clearhead.core.errors import DataError, ModelError
from clearhead.core.recipe import Section
from clearhead.serve.config import ServeConfig
from clearhead.serve.errors import Json, LateError
from clearhead.serve.guards import no_key
from clearhead.serve.hall import Hall, Served
from clearhead.serve.keys import Keys, bearer

AUTO, UNKNOWN = "auto", "und"  # any source language; the code of a language that nobody has told us
NAMES = {
    "ar": "Arabic",
    "cs": "Czech",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
    UNKNOWN: "any",
}
LONGEST = 4_000  # sentences of a request


class TranslateRequest(Section):
    """Texts and their languages."""

    q: str | Annotated[list[str], Field(min_length=1)]
    source: str = AUTO
    target: str | None = None  # None = what the model writes
    format: Literal["text"] = "text"
    alternatives: Annotated[int, Field(ge=0, le=16)] = 0  # further translations of each text
    api_key: str | None = None
    model: str | None = None  # ours: the name of a model, in place of one that fits the languages

    @property
    def texts(self) -> list[str]:
        """All texts."""
        return [self.q] if isinstance(self.q, str) else self.q


def routes(hall: Hall, config: ServeConfig) -> APIRouter:
    """POST /translate and GET /languages."""
    router = APIRouter(tags=["LibreTranslate"])
    keys = Keys(config.api_keys)
    offers = {name: languages(each, config) for name, each in hall.models.items() if each.translations is not None}
    schema = {"application/json": {"schema": TranslateRequest.model_json_schema()}}

    @router.post("/translate", openapi_extra={"requestBody": {"required": True, "content": schema}})
    async def translate(request: Request) -> Any:
        """Translate a text or a list of texts, sentence by sentence; those of many clients together."""
        asked = await _asked(request)
        if not keys.open(asked.api_key) and not keys.open(bearer(request.headers.get("authorization"))):
            return no_key()
        if len(asked.texts) > config.max_texts:
            raise DataError("too many texts in one request", found=len(asked.texts), expected=config.max_texts)
        served = _translator(hall, offers, asked)
        source, target = offers[served.name]
        found = await _translated(served, asked, target, config.request_seconds)
        return Json(_written(asked, source, found))

    @router.get("/languages")
    async def offered() -> Response:
        """Which languages are read, and into which each is translated."""
        targets: dict[str, set[str]] = {}
        for source, target in offers.values():
            targets.setdefault(source, set()).add(target)
        return Json(
            [
                {"code": code, "name": NAMES.get(code, code), "targets": sorted(targets[code])}
                for code in sorted(targets)
            ]
        )

    return router


def languages(served: Served, config: ServeConfig) -> tuple[str, str]:
    """What a model reads and writes, as the user or its history tells."""
    history = served.model.bundle.history
    told = [history.get("source_language"), history.get("language")]
    if served.name in config.languages:
        source, _, target = config.languages[served.name].partition("-")
        told = [source, target]
    first, second = (each if isinstance(each, str) and each else UNKNOWN for each in told)
    return first, second


async def _asked(request: Request) -> TranslateRequest:
    """The request, as JSON or as a form."""
    form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    try:
        if form:
            pairs = parse_qs((await request.body()).decode(), keep_blank_values=True, max_num_fields=1_000)
            return TranslateRequest.model_validate(
                {key: each if len(each) > 1 else each[0] for key, each in pairs.items()}
            )
        return TranslateRequest.model_validate(await request.json())
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None
    except (ValueError, RecursionError):
        raise RequestValidationError([{"type": "json_invalid", "loc": ("body",), "msg": "not JSON"}]) from None


def _translator(hall: Hall, offers: dict[str, tuple[str, str]], asked: TranslateRequest) -> Served:
    """The model of that name, or the first one for these languages."""
    if asked.model is not None:
        served = hall.find(asked.model)
        if served.translations is None:
            raise ModelError(f"this model is {served.kind}: it does not translate", remedy="take a translator")
        return served
    for name, (source, target) in offers.items():
        reads, writes = asked.source in (source, AUTO) or source == UNKNOWN, asked.target in (target, None)
        if reads and (writes or target == UNKNOWN):
            return hall.models[name]
    expected = ", ".join(f"{source}-{target}" for source, target in offers.values()) or "no model here translates"
    raise DataError("no model for these languages", found=f"{asked.source}-{asked.target}", expected=expected)


async def _translated(served: Served, asked: TranslateRequest, target: str, seconds: float) -> list[list[str]]:
    """The translations of each text, best first."""
    cut = [Sentences(each) for each in asked.texts]
    sentences = [sentence for each in cut for sentence in each.all]
    if len(sentences) > LONGEST:
        raise DataError(
            "too many sentences in one request", found=f"{len(sentences):,}", expected=f"at most {LONGEST:,}"
        )
    assert served.translations is not None
    try:
        with fail_after(seconds):
            left = iter(await served.translations.translate(sentences, asked.alternatives + 1))
    except TimeoutError:
        raise LateError("the translation took longer than this server allows") from None
    return [_joined(each, [next(left) for _ in each.all], target) for each in cut]


def _joined(text: Sentences, found: list[list[str]], target: str) -> list[str]:
    """Whole texts: the best of each sentence, then the second ones, ...; where a sentence has no more, its best."""
    most = max(map(len, found), default=1)
    ranks = [[each[rank] if rank < len(each) else each[0] for each in found] for rank in range(most)]
    return [text.replaced(each, target) for each in ranks]


def _written(asked: TranslateRequest, source: str, found: list[list[str]]) -> dict[str, Any]:
    """One text as itself, several as lists."""
    several = isinstance(asked.q, list)
    best = [each[0] for each in found]
    others = [each[1:] for each in found]
    detected = {"confidence": 0, "language": source}
    told: dict[str, Any] = {"translatedText": best if several else best[0]}
    if asked.alternatives:
        told["alternatives"] = others if several else others[0]
    if asked.source == AUTO:
        told["detectedLanguage"] = [detected] * len(best) if several else detected
    return told
