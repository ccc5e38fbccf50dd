"""The architectures of the transformers library that Clearhead can say; each file registers its own."""

from clearhead.bundle.exchange.architectures import (
    albert,
    bart,
    bert,
    distilbert,
    electra,
    gpt2,
    llama,
    marian,
    roberta,
    roformer,
    t5,
    vit,
)

__all__ = [
    "albert",
    "bart",
    "bert",
    "distilbert",
    "electra",
    "gpt2",
    "llama",
    "marian",
    "roberta",
    "roformer",
    "t5",
    "vit",
]
