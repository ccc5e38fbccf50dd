"""Log-probabilities of tokens in OpenAI's two ways of writing them."""

from collections.abc import Iterable, Sequence
from typing import Any

from clearhead.apply.pieces import Pieces
from clearhead.generate import Event

LEAST = -9999.0  # what OpenAI writes where a probability is none; JSON has no infinity


def of_chat(events: Iterable[Event], pieces: Pieces) -> dict[str, Any]:
    """As conversations have them: one entry for each token."""
    content = []
    for each in events:
        assert each.token is not None
        top = [_entry(token, value, pieces) for token, value in each.top]
        content.append({**_entry(each.token, each.log_probability, pieces), "top_logprobs": top})
    return {"content": content, "refusal": None}


def of_completion(events: Sequence[Event], pieces: Pieces, start: int) -> dict[str, Any]:
    """As completions have them: lists side by side; `start`: where the first token's text begins."""
    told: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for each in events:
        assert each.token is not None
        text = pieces.text(each.token)
        told["tokens"].append(text)
        told["token_logprobs"].append(_finite(each.log_probability))
        told["top_logprobs"].append({pieces.text(token): _finite(value) for token, value in reversed(each.top)})
        told["text_offset"].append(start)
        start += len(text)
    return told


def _entry(token: int, value: float | None, pieces: Pieces) -> dict[str, Any]:
    return {"token": pieces.text(token), "logprob": _finite(value), "bytes": pieces.octets(token)}


def _finite(value: float | None) -> float:
    return LEAST if value is None else max(value, LEAST)
