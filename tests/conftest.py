"""Fixtures that several rooms use: one thread, a fresh seed for each test, double precision, tiny models."""

from collections.abc import Callable, Iterator

import pytest
import torch

from clearhead.model import ModelConfig, Transformer

SIZES = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 12, "heads": 2, "d_ff": 20, "length": 16, "dropout": 0.0}
VOCAB = {"source_vocab": 23, "target_vocab": 23}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(20170612)


@pytest.fixture
def double() -> Iterator[None]:
    """Models and tensors are made in float64 during the test."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def tiny() -> Callable[..., Transformer]:
    """A function from changes of the config to a model in eval mode, an encoder-decoder of 2 + 2 layers."""
    return lambda **changes: Transformer(ModelConfig(**{**SIZES, **VOCAB, **changes})).eval()
