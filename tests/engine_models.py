"""Small models for the tests of formats: one for each registered part, taken from the registries."""

from collections.abc import Iterator

from clearhead.core.errors import ConfigError
from clearhead.core.registry import Registry
from clearhead.model import ModelConfig
from clearhead.model.attention import ATTENTIONS, PROJECTIONS
from clearhead.model.embedding import EMBEDDING_JOINS, EMBEDDINGS
from clearhead.model.feedforward import FEEDFORWARDS
from clearhead.model.head import HEADS
from clearhead.model.norm import NORMS
from clearhead.model.position import POSITIONS
from clearhead.model.residual import RESIDUALS
from clearhead.model.stack import STACKS
from hf_models import LM, ROTARY, TRANSLATOR, VOCAB

FAMILIES: dict[str, Registry] = {
    "position": POSITIONS,
    "attention": ATTENTIONS,
    "projections": PROJECTIONS,
    "embedding": EMBEDDINGS,
    "embedding_join": EMBEDDING_JOINS,
    "norm": NORMS,
    "residual": RESIDUALS,
    "feedforward": FEEDFORWARDS,
    "stack": STACKS,
    "head": HEADS,
}
READER = {**LM, "encoder_layers": 2, "decoder_layers": 0, "tie": "none"}
GPT2 = {**LM, "position": "learned", "feedforward": "gelu_tanh"}
LLAMA = {**ROTARY, "position": "rope", "feedforward": "swiglu"}
KINDS = {"translator": TRANSLATOR, "gpt2": GPT2, "llama": LLAMA, "reader": READER}
OPTIONS = {  # what parts are like beside their kind
    "grouped heads": {"kv_heads": 1},
    "wide heads": {"d_head": 4},
    "no biases": {"bias": False},
    "biases of queries only": {"bias": False, "qkv_bias": True},
    "norm of the embeddings": {"embedding_norm": True},
    "scaled": {
        "scale_embedding": True,
        "attention": {"kind": "dot", "scale": 0.7},
        "head": {"kind": "lm", "scale": 0.5},
    },
    "biased words": {"head": {"kind": "lm", "bias": True}},
    "shared layers": {"layer_groups": 1},
    "shared networks": {"layer_groups": 1, "shared": "feedforward"},
    "untied": {"tie": "none"},
    "window": {"window": 3},
    "another beginning": {"qkv_initialisation": "orthogonal"},
    "offset": {"position": {"kind": "learned", "offset": 2}},
    "halves": {"position": {"kind": "sinusoidal", "layout": "halves", "base": 50.0}},
    "pairs": {"position": {"kind": "rope", "layout": "pairs", "base": 500.0}},
    "stretched": {"position": {"kind": "rope", "scaling": {"kind": "linear", "factor": 2.0}}},
    "part of a head": {"heads": 1, "position": {"kind": "rope", "fraction": 0.5}},
    "near": {"position": {"kind": "shaw", "clip": 2}},
    "few buckets": {"position": {"kind": "t5", "buckets": 8, "distance": 11}},
    "two thirds": {"feedforward": {"kind": "swiglu", "two_thirds": True, "multiple": 3}},
}


def models() -> Iterator[tuple[str, ModelConfig]]:
    """What is special and the config, for every part and option that goes with a kind of model."""
    changes = {f"{family} {name}": {family: name} for family, parts in FAMILIES.items() for name in parts.names()}
    for kind, settings in KINDS.items():
        for special, change in {**changes, **OPTIONS}.items():
            try:
                yield f"{kind}, {special}", ModelConfig(**{**VOCAB, **settings, **change})
            except (ConfigError, ValueError):
                continue
