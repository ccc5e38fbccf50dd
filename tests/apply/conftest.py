"""Untrained models ready for use: what they say is nonsense, but the same nonsense every time."""

from collections.abc import Callable

import pytest
import torch

from clearhead.apply import Model
from clearhead.bundle import Bundle
from clearhead.model import ModelConfig, Transformer
from clearhead.text import train_tokenizer

KINDS = {"encoder-decoder": (1, 1), "encoder-only": (2, 0), "decoder-only": (0, 2)}


@pytest.fixture
def make() -> Callable[..., Model]:
    """A function from a kind to a model; the tokenizer keeps spaces, so a text of spaces has tokens."""

    def build(kind: str = "encoder-decoder", **changes: object) -> Model:
        torch.manual_seed(11)
        tokenizer = train_tokenizer("byte", ["irrelevant"])
        encoder, decoder = KINDS[kind]
        sizes = {"encoder_layers": encoder, "decoder_layers": decoder, "d_model": 12, "heads": 2, "d_ff": 20}
        vocab = {"source_vocab": tokenizer.vocab_size, "target_vocab": tokenizer.vocab_size}
        model = Transformer(ModelConfig(**{**sizes, **vocab, "pad": tokenizer.need("pad"), "length": 40, **changes}))
        return Model(Bundle(model, tokenizer, tokenizer, {"beams": 2, "length_extra": 5, "length_factor": 0.5}))

    return build
