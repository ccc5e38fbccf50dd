"""Untrained bundles of every kind of model, small and seeded."""

from collections.abc import Callable

import pytest
import torch

from clearhead.bundle import Bundle
from clearhead.model import ModelConfig, Transformer
from clearhead.text import train_tokenizer

KINDS = {"encoder-decoder": (2, 1), "encoder-only": (2, 0), "decoder-only": (0, 2)}


@pytest.fixture
def make() -> Callable[..., Bundle]:
    """A function from a kind and changes of the config to a bundle; `joint` gives both sides one tokenizer."""

    def build(kind: str = "encoder-decoder", *, joint: bool = True, seed: int = 5, **changes: object) -> Bundle:
        torch.manual_seed(seed)
        target = train_tokenizer("char", ["abcdefg 你好é"])
        source = target if joint else train_tokenizer("char", ["uvwxyz"])
        encoder, decoder = KINDS[kind]
        sizes = {"encoder_layers": encoder, "decoder_layers": decoder, "d_model": 12, "heads": 2, "d_ff": 20}
        vocab = {"source_vocab": source.vocab_size, "target_vocab": target.vocab_size, "pad": target.need("pad")}
        tie = "all" if joint else "output"
        model = Transformer(ModelConfig(**{**sizes, **vocab, "tie": tie, "length": 24, **changes}))
        history = {"name": "toy", "language": "en", "updates": seed}
        return Bundle(model.eval(), source, target, {"beams": 2}, history)

    return build
