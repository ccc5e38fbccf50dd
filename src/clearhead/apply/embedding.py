"""Texts to vectors: the mean of a model's last hidden states, of length one.

Of models with an encoder those of the encoder, otherwise those of the decoder. Source of the pooling: Reimers and
Gurevych, 2019, arXiv:1908.10084, section 3 ("MEAN").
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clearhead.apply.completing import opening, require_texts
from clearhead.apply.model import Model
from clearhead.bundle import Bundle
from clearhead.core.batching import cut
from clearhead.core.errors import DataError


def reading(bundle: Bundle, text: str) -> list[int]:
    """The ids that a model reads of a text, with those that it was trained to see around it."""
    tokenizer, kind = bundle.source, bundle.model.config.kind
    if kind == "decoder-only":
        return [*opening(bundle), *tokenizer.encode(text)]
    if kind == "encoder-decoder":
        before, after = bundle.source_frame
        return [*before, *tokenizer.encode(text), *after]
    whole: list[int] = tokenizer.backend.encode(text, add_special_tokens=True).ids
    around = [tokenizer.cls, tokenizer.sep]
    if whole != tokenizer.encode(text) or None in around:  # the tokenizer's own template
        return whole
    return [tokenizer.need("cls"), *whole, tokenizer.need("sep")]


def embed(model: Model, texts: Sequence[str]) -> Tensor:
    """The vector of each text, (texts, d_model) float32 on the CPU.

    Raises:
        DataError: a text without a token, or a longer one than the model was made for.
    """
    return embed_tokens(model, [reading(model.bundle, each) for each in require_texts(texts)])


@torch.inference_mode()
def embed_tokens(model: Model, rows: Sequence[Sequence[int]], *, budget: int = 4_096) -> Tensor:
    """The same of ids, as the model reads them.

    Args:
        rows: ids, any number of each.
        budget: padded tokens of a batch.
    """
    _check(model, rows)
    vectors = torch.zeros(len(rows), model.bundle.model.config.d_model)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    for part in cut([len(rows[index]) for index in order], budget):
        vectors[order[part]] = _means(model, [rows[index] for index in order[part]])
    return F.normalize(vectors, dim=1)


def _means(model: Model, rows: Sequence[Sequence[int]]) -> Tensor:
    """The mean hidden state of each row, (batch, d_model)."""
    transformer = model.bundle.model
    longest = max(map(len, rows))
    tokens = torch.tensor([[*each, *[0] * (longest - len(each))] for each in rows], device=model.device)
    lengths = torch.tensor([len(each) for each in rows], device=model.device)
    valid = torch.arange(longest, device=model.device) < lengths[:, None]  # (batch, length)
    if transformer.config.kind == "decoder-only":
        hidden = transformer.decode(tokens, valid=valid)  # (batch, length, d_model)
    else:
        hidden = transformer.encode(tokens, valid).hidden
    kept = hidden.float().masked_fill(~valid[..., None], 0.0)
    return (kept.sum(dim=1) / lengths[:, None]).cpu()  # (batch, d_model)


def _check(model: Model, rows: Sequence[Sequence[int]]) -> None:
    config = model.bundle.model.config
    vocab = (config.target_vocab if config.kind == "decoder-only" else config.source_vocab) or config.source_vocab
    vocab = vocab or config.target_vocab
    for number, each in enumerate(rows, start=1):
        if not each:
            raise DataError("there is nothing to read", where=f"text {number}", expected="at least one token")
        if len(each) > config.length:
            found, expected = f"{len(each):,} tokens", f"at most {config.length:,}"
            what = "this text is longer than the model was made for"
            raise DataError(what, where=f"text {number}", found=found, expected=expected, remedy="cut it into parts")
        if not 0 <= min(each) <= max(each) < vocab:
            raise DataError("an unknown token", where=f"text {number}", expected=f"0 to {vocab - 1}")
